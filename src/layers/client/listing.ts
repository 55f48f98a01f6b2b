/** Lists jobs page by page. */
import * as Effect from "effect/Effect"
import type * as Message from "../../protocol/Message.js"
import type { ArcpClientService, ClientError } from "../../services/client/ArcpClient.js"
import type { ClientSession } from "./ClientSession.js"
import { stream } from "./pull.js"
import { violation } from "./violation.js"

/** Jobs of a page, at most (§6.6). */
const maxPage = 1000

/** Returns all jobs that match, a page at a time as they are read (§6.6). Fails when the pages go round in a circle. */
export const list =
  (session: ClientSession): ArcpClientService["list"] =>
  (filter, { limit = Number.POSITIVE_INFINITY } = {}) =>
    stream<Message.JobEntry, ClientError>(() => {
      let page: ReadonlyArray<Message.JobEntry> = []
      let at = 0
      let cursor: string | null | undefined
      let pages = 0
      let left = limit
      // An earlier cursor, exchanged ever more seldom: in a circle of any length it comes again.
      let mark: string | null | undefined
      return () => {
        if (left <= 0) return undefined
        const entry = page[at++]
        if (entry !== undefined) {
          left--
          return [entry]
        }
        if (cursor === null) return undefined
        // Without a limit the runtime says how much a page is.
        const asked = left === Number.POSITIVE_INFINITY ? undefined : Math.min(left, maxPage)
        return Effect.flatMap(
          session.request("session.list_jobs", "session.jobs", { filter, limit: asked, cursor }),
          ({ payload }) => {
            page = payload.jobs
            at = 0
            cursor = payload.next_cursor ?? null
            if (cursor !== null && cursor === mark) return violation("the listing does not end")
            if ((++pages & (pages - 1)) === 0) mark = cursor
            return Effect.void
          }
        )
      }
    })
