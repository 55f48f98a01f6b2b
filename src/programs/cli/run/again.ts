/** What `arcp fork` and `arcp retry` have in common: a job that is as another one in whatever the flags leave out. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { fork } from "../../../layers/client/forking.js"
import { connectTo } from "../client.js"
import type { RetryFlags } from "../commands.js"
import { attended } from "../lost.js"
import { targetOf } from "../target.js"
import { optionsOf, readInput, startAndShow } from "./starting.js"

/** Starts a job that goes on from another, from before a step when there is one, and watches it. */
export const startAgain = (flags: RetryFlags, jobId: string, at?: string) =>
  Effect.gen(function* () {
    const input = yield* Option.match(flags.input, {
      onNone: () => Effect.succeed(undefined),
      onSome: readInput
    })
    // A mistake in the flags is told before anybody is asked.
    yield* optionsOf(flags)
    const target = yield* targetOf(flags)
    const client = yield* connectTo(target)
    const { agent, lease } = yield* client
      .subscribe(jobId, { history: false })
      .pipe(Effect.scoped, attended(client, flags))
    yield* startAndShow(flags, target, client, {
      agent: Option.getOrElse(flags.agent, () => agent),
      input,
      options: { ...(yield* optionsOf(flags, lease)), ...fork(jobId, at) }
    })
  }).pipe(Effect.scoped)
