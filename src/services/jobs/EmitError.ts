/** Why an event was not logged: what the methods of a job fail with, and whatever puts an event on its stream. */
import type { InternalError, InvalidRequest } from "../../protocol/Errors.js"

/**
 * Why an event was not logged: `InvalidRequest` when its body breaks the schema of its kind (nothing
 * else is affected), `InternalError` when the log could not commit it or a size limit was passed.
 */
export type EmitError = InvalidRequest | InternalError
