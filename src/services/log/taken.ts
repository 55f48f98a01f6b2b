/** What whoever waits is told of a job or a session that another process has taken. */
import { InternalError } from "../../protocol/Errors.js"

/** Nothing was written, since another process has taken what it is of. */
export const takenAway = new InternalError({
  message: "another process has taken this over",
  details: { reason: "superseded" }
})

/** Returns whether something was not written because another process has taken what it is of. */
export const isTaken = (error: InternalError): boolean => error === takenAway
