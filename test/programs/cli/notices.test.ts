/** What a command says of its connection. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { notice, notices } from "../../../src/programs/cli/lost.js"
import type { Status } from "../../../src/services/client/ArcpClient.js"

const resumed = (resumedAt: number): Status => ({ _tag: "Connected", sessionId: "sess_a", resumedAt })
const lost: Status = { _tag: "Reconnecting", lastEventSeq: 7, reason: "the connection closed" }

const said = (...statuses: ReadonlyArray<Status>) =>
  Effect.gen(function* () {
    const lines: Array<string | undefined> = []
    yield* notices(
      { status: { get: Effect.succeed(lost), changes: Stream.fromIterable(statuses) } },
      (status) => lines.push(notice(status))
    )
    return lines
  })

it.effect("is each loss and each return once", () =>
  Effect.gen(function* () {
    assert.deepStrictEqual(yield* said(resumed(0), lost, { _tag: "Connecting" }, lost, resumed(7), lost), [
      "… the connection closed; reconnecting, last event 7",
      "✓ resumed after event 7",
      "… the connection closed; reconnecting, last event 7"
    ])
  })
)

it.effect("is nothing of a session that was resumed to begin with, as that of arcp cancel", () =>
  Effect.gen(function* () {
    assert.deepStrictEqual(yield* said({ _tag: "Connecting" }, resumed(0)), [])
  })
)
