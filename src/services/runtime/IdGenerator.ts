/** Where ids and trace ids come from, so that tests can make them repeatable. */
import * as Context from "effect/Context"
import type { IdPrefix } from "../../protocol/Ids.js"

export class IdGenerator extends Context.Tag("arcp/services/IdGenerator")<
  IdGenerator,
  {
    /** A fresh ULID: the `id` of an outbound message. Synchronous, ~300 ns. */
    readonly unsafeNext: () => string
    /** A fresh prefixed id, `job_01J9…`. */
    readonly unsafeMake: (prefix: IdPrefix) => string
    /** A fresh W3C trace-id. */
    readonly unsafeTraceId: () => string
  }
>() {}
