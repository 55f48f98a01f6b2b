import { assert, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import { pack } from "../../../src/layers/store/packing.js"
import type { Batch, StoredEvent } from "../../../src/services/store/Store.js"
import { Op } from "../../../src/services/store/Store.js"

/** Events with few values of everything, so that stretches are long, and gaps and repetitions come too. */
const events: FastCheck.Arbitrary<ReadonlyArray<StoredEvent>> = FastCheck.array(
  FastCheck.record({
    step: FastCheck.constantFrom(1, 1, 1, 1, 0, 2),
    type: FastCheck.constantFrom("job.event" as const, "job.event" as const, "job.result" as const),
    kind: FastCheck.constantFrom("log", "log", "log", "status"),
    audience: FastCheck.constantFrom(undefined, undefined, undefined, "sess_a"),
    payload: FastCheck.string()
  })
).map((steps) => {
  let seq = 0
  return steps.map(({ audience, kind, payload, step, type }) => {
    seq += step
    return { seq, type, kind, audience, payload }
  })
})

const unpacked = (batch: Batch): ReadonlyArray<StoredEvent> =>
  pack(batch).ops.flatMap((op) =>
    op._tag !== "Append"
      ? []
      : op.stretches.flatMap(({ audience, kind, payloads, seq, type }) =>
          payloads.map((payload, i) => ({ seq: seq + i, type, kind, audience, payload }))
        )
  )

it.prop("what is packed says the same, in the same order", [events], ([given]) => {
  const batch = { ops: [Op.Append({ jobId: "job_a", events: given })], owners: [] }
  assert.deepStrictEqual(unpacked(batch), given)
})

it("events that differ in their payloads only are one stretch, and a gap begins another", () => {
  const log = (seq: number) => ({ seq, type: "job.event", kind: "log", payload: `${seq}` }) as const
  const [append] = pack({
    ops: [Op.Append({ jobId: "job_a", events: [log(1), log(2), log(4)] })],
    owners: []
  }).ops
  assert.deepStrictEqual(append?._tag === "Append" ? append.stretches.map(({ payloads }) => payloads) : [], [
    ["1", "2"],
    ["4"]
  ])
})

it("everything else of a batch stays as it is", () => {
  const alive = Op.Alive({ at: 1 })
  const owners = [{ job: "job_a", epoch: 3 }]
  assert.deepStrictEqual(pack({ ops: [alive], owners }), { ops: [alive], owners })
})
