/** Where ids and trace ids come from, so that tests can make them repeatable. */
import * as Context from "effect/Context"
import type { IdPrefix } from "../../protocol/Ids.js"

/** Makes the ids of messages, sessions and jobs, and trace ids. */
export class IdGenerator extends Context.Tag("arcp/services/IdGenerator")<
  IdGenerator,
  {
    /** Returns a fresh ULID: the `id` of an outbound message. Synchronous, ~300 ns. */
    readonly unsafeNext: () => string
    /** Returns a fresh id with its prefix, `job_01J9…`. */
    readonly unsafeMake: (prefix: IdPrefix) => string
    /** Returns a fresh W3C trace-id. */
    readonly unsafeTraceId: () => string
  }
>() {}
