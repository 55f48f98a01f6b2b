/**
 * A batch as whoever writes it gets it: with the events of a job as columns. In a message to a thread every object names all
 * of its fields, and so costs ten times what the text of an event does.
 */
import type { Batch, Op, Owner, StoredEvent } from "../../services/store/Store.js"

/** Events of a job that follow each other and differ in nothing but their payloads. */
export interface Stretch extends Omit<StoredEvent, "payload"> {
  /** Of `seq` and those after it. */
  readonly payloads: ReadonlyArray<string>
}

/** An operation with the events that it appends packed. */
export type PackedOp =
  | Exclude<Op, { readonly _tag: "Append" }>
  | { readonly _tag: "Append"; readonly jobId: string; readonly stretches: ReadonlyArray<Stretch> }

/** A batch of a store, packed. */
export interface PackedBatch {
  readonly ops: ReadonlyArray<PackedOp>
  readonly owners: ReadonlyArray<Owner>
}

/** Returns events as stretches. A gap begins a new one, so that whoever writes them finds it. */
const stretchesOf = (events: ReadonlyArray<StoredEvent>): ReadonlyArray<Stretch> => {
  const stretches: Array<Stretch> = []
  let first: StoredEvent | undefined
  let payloads: Array<string> = []
  for (const event of events) {
    const goesOn =
      first !== undefined &&
      event.seq === first.seq + payloads.length &&
      event.type === first.type &&
      event.kind === first.kind &&
      event.audience === first.audience
    if (goesOn) payloads.push(event.payload)
    else {
      const { audience, kind, payload, seq, type } = event
      first = event
      payloads = [payload]
      stretches.push({ seq, type, kind, audience, payloads })
    }
  }
  return stretches
}

/** Packs a batch. */
export const pack = ({ ops, owners }: Batch): PackedBatch => ({
  ops: ops.map((op) =>
    op._tag === "Append" ? { _tag: "Append", jobId: op.jobId, stretches: stretchesOf(op.events) } : op
  ),
  owners
})
