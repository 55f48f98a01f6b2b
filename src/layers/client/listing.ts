/** Lists jobs page by page. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Message from "../../protocol/Message.js"
import {
  type ArcpClientService,
  type ClientError,
  ProtocolViolation
} from "../../services/client/ArcpClient.js"
import type { ClientSession } from "./ClientSession.js"
import { end, type Pull, stream } from "./pull.js"

/** Returns all jobs that match, a page at a time as they are read (§6.6). Fails when the pages go round in a circle. */
export const list =
  (session: ClientSession): ArcpClientService["list"] =>
  (filter) =>
    stream(() => {
      let page: ReadonlyArray<Message.JobEntry> = []
      let at = 0
      let cursor: string | null | undefined
      let pages = 0
      // An earlier cursor, exchanged ever more seldom: in a circle of any length it comes again.
      let mark: string | null | undefined
      const next: Pull<Message.JobEntry, ClientError> = Effect.suspend(() => {
        const entry = page[at++]
        if (entry !== undefined) return Effect.succeed(entry)
        if (cursor === null) return end
        return session.request("session.list_jobs", "session.jobs", { filter, cursor }).pipe(
          Effect.mapError(Option.some),
          Effect.flatMap(({ payload }) => {
            page = payload.jobs
            at = 0
            cursor = payload.next_cursor ?? null
            if (cursor !== null && cursor === mark)
              return Effect.fail(Option.some(new ProtocolViolation({ message: "the listing does not end" })))
            if ((++pages & (pages - 1)) === 0) mark = cursor
            return next
          })
        )
      })
      return next
    })
