/** What can be wanted of the node that has a job, and what comes of it, as it is stored with a wish. */
import { type ArcpError, type ErrorPayload, fromPayload, toPayload } from "../../../protocol/Errors.js"
import type { Feature } from "../../../protocol/Features.js"
import type { JobInput } from "../../../protocol/Message.js"
import type { Identity } from "../../../services/auth/Auth.js"
import type { Slow } from "../../../services/log/EventLog.js"
import type { Wish } from "../../../services/store/Store.js"

/** The job is to end. */
export interface CancelWant {
  readonly kind: "cancel"
  readonly reason?: string | undefined
}

/** What the job asks is answered, by a principal who may. */
export interface AnswerWant {
  readonly kind: "answer"
  readonly by: string
  readonly payload: JobInput
}

/** A session becomes the owner of the job, by its submit. */
export interface AdoptWant {
  readonly kind: "adopt"
  readonly sessionId: string
  readonly submitId: string
  /** The session that owned the job when this was decided, and is gone. */
  readonly after: string
  readonly features: ReadonlyArray<Feature>
  /** Of the session, without the principal, which is the job's. */
  readonly identity: Omit<Identity, "principal">
}

/** The job's node is told how a session of another reads it. Nobody waits for that. */
export interface PaceWant {
  readonly kind: "pace"
  readonly sessionId: string
  readonly slow: Slow
}

/** What is wanted has been decided where it is asked for: whoever has the job only does it. */
export type Want = CancelWant | AnswerWant | AdoptWant | PaceWant

/** Returns a want as it is stored. */
export const toBody = ({ kind: _, ...want }: Want): string => JSON.stringify(want)

/** Returns what a wish asks for. */
export const ofWish = ({ body, kind }: Pick<Wish, "body" | "kind">): Want =>
  ({ ...(JSON.parse(body) as object), kind }) as Want

/** What came of it; absent of what was done. */
interface StoredAnswer {
  readonly error?: ErrorPayload | undefined
}

/** Returns an answer as it is stored. */
export const toAnswer = (error: ArcpError | undefined): string =>
  JSON.stringify(error === undefined ? {} : ({ error: toPayload(error) } satisfies StoredAnswer))

/** Returns why it was not done; `undefined` of what was. */
export const ofAnswer = (answer: string): ArcpError | undefined => {
  const { error } = JSON.parse(answer) as StoredAnswer
  return error === undefined ? undefined : fromPayload(error)
}
