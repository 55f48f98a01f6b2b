/** What a runtime says of a job, as its handles give it. */
import * as Redacted from "effect/Redacted"
import * as Check from "../../protocol/Check.js"
import type { EventPayload } from "../../protocol/Event.js"
import { bodyProblem, isKind } from "../../protocol/RuntimeFrame.js"
import type { InputRequest, JobCredential, JobEvent } from "../../services/client/ArcpClient.js"

/** The event, of the kind `other` where its body is not what its kind says. */
export const typed = (eventSeq: number, { kind, ts, body }: EventPayload): JobEvent => {
  const known = isKind(kind)
  const problem = known ? bodyProblem(kind, body) : undefined
  if ((known && problem === undefined) || kind.startsWith("x-vendor."))
    return { kind, ts, body, eventSeq } as JobEvent
  return { kind: "other", wireKind: kind, ts, body, problem, eventSeq }
}

/** An entry of a budget. */
export const isNumeric = (entry: [string, unknown]): entry is [string, number] => typeof entry[1] === "number"

const wireCredential = Check.ifGood(
  Check.object<Omit<JobCredential, "value"> & { readonly value: string }>({
    id: Check.string,
    value: Check.string,
    endpoint: Check.string,
    profile: Check.optional(Check.string)
  }),
  undefined
)
/** A credential as `job.accepted` shows it; what is none is left out. */
export const credential = (wire: unknown): ReadonlyArray<JobCredential> => {
  const read = wireCredential(wire, "")
  return read === undefined ? [] : [{ ...read, value: Redacted.make(read.value) }]
}

/** What a job asks; `undefined` of what cannot be read. */
export const inputRequest = Check.ifGood(
  Check.object<InputRequest>({
    input_id: Check.text,
    prompt: Check.string,
    choices: Check.optional(Check.list),
    about: Check.optional(Check.object<InputRequest["about"] & {}>({ sha256: Check.string })),
    expires_at: Check.optional(Check.string)
  }),
  undefined
)
