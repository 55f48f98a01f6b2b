/** Why a handler is given up, for those that are told of it by an error: async functions, which nothing interrupts. */
import * as Context from "effect/Context"
import { type ArcpError, InternalError } from "../../protocol/Errors.js"

/** What the job in this context is ended by, as the protocol's error, and how long its handler is waited for then. */
export class EndedBy extends Context.Reference<EndedBy>()("arcp/services/EndedBy", {
  defaultValue: () => ({
    error: (): ArcpError => new InternalError({ message: "the job has ended" }),
    graceMs: 0
  })
}) {}
