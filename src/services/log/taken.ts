/** What whoever waits is told of a job or a session that another process has taken. */
import { InternalError } from "../../protocol/Errors.js"

/** Nothing was written, since another process has taken what it is of. */
export const takenAway = new InternalError({
  message: "another process has taken this over",
  details: { reason: "superseded" }
})

/** Nothing was written, since a job has the idempotency key meanwhile that was stated to be free. */
export const keyUsed = new InternalError({
  message: "another process has used this idempotency key",
  details: { reason: "superseded" }
})

/** Returns whether a job was not opened because its key was used meanwhile. */
export const isKeyUsed = (error: unknown): boolean => error === keyUsed

/** Returns whether something was not written because another process has taken what it is of. */
export const isTaken = (error: InternalError): boolean => error === takenAway
