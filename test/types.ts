/** The types are part of the interface: `npm run check` fails when one of these lines compiles, or does not. */
import * as Effect from "effect/Effect"
import * as ArcpClient from "../src/layers/ArcpClient.js"
import { Count, Picky } from "./support/agents.js"

export const typed = Effect.gen(function* () {
  const client = yield* ArcpClient.ArcpClient
  // @ts-expect-error the input is not what the contract says
  yield* client.submit(Count, { to: "three" })
  const job = yield* client.submit(Picky, "x")
  const result: Effect.Effect<string, { readonly _tag: "NotThat" } | ArcpClient.ClientError> = job.result
  // @ts-expect-error the result is a text
  const wrong: Effect.Effect<number, unknown> = job.result
  return [result, wrong]
})
