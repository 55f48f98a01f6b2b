/** What `arcp submit` does: submits a job and watches it to its end. */
import * as Effect from "effect/Effect"
import { connectTo } from "../client.js"
import type { SubmitFlags } from "../commands.js"
import { targetOf } from "../target.js"
import { optionsOf, readInput, startAndShow } from "./starting.js"

export const run = (flags: SubmitFlags, agent: string) =>
  Effect.gen(function* () {
    const input = yield* readInput(flags.input)
    const options = yield* optionsOf(flags)
    const target = yield* targetOf(flags)
    const client = yield* connectTo(target)
    yield* startAndShow(flags, target, client, { agent, input, options })
  }).pipe(Effect.scoped)
