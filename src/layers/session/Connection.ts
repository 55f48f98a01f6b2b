/**
 * One transport of an open session: a reader (the fiber that serves it), a writer, and once it submits a queue that keeps
 * submits in order; its heartbeat and the end of its token are looked at by the keeper. All end with it; the session does not.
 *
 * Most connections are idle, and there are thousands: what one holds while it waits is what its fibers have on their
 * stacks. So the loops are `whileLoop`s over rounds that return before anybody waits, not generators that wait inside.
 */
import * as Effect from "effect/Effect"
import type { Connection } from "../../services/transport/Transport.js"
import * as Delivering from "./delivering.js"
import type { AttachedSession } from "./Resume.js"
import { type ReceiptServices, read } from "./receiving.js"
import { Served, type Start } from "./Served.js"
import type { Attachment } from "./Session.js"
import { beat, expire, part, type WatchServices } from "./watching.js"

/** What a connection works on. */
export type ConnectionServices = Delivering.DeliveryServices & ReceiptServices & WatchServices

/** Returns what serves one connection. */
export const make = (services: ConnectionServices) => ({
  /** Puts together what serves a session on one transport. */
  prepare: (connection: Connection, held: AttachedSession, attachment: Attachment, start: Start): Served =>
    new Served(connection, held, attachment, start, services.elapsed),

  /** Serves a session on one transport, until the reader and the writer are done. */
  run: (served: Served): Effect.Effect<void> =>
    Effect.suspend(() => {
      Delivering.begin(services, served)
      part(services, served)
      const { expiresAt } = served.session.identity
      if (expiresAt !== undefined) expire(services, served, expiresAt)
      const reading = Effect.zipRight(read(services, served), served.allWritten)
      if (!served.session.has("heartbeat")) return reading
      const { mayFallSilent } = served.connection
      if (mayFallSilent === undefined) {
        beat(services, served)
        return reading
      }
      const beginning = Effect.map(mayFallSilent, () => beat(services, served))
      return Effect.flatMap(Effect.fork(beginning), (fiber) => {
        served.runs(fiber)
        return reading
      })
    }),

  /** Ends what still runs, whatever `run` ended with. */
  end: (served: Served): Effect.Effect<void> =>
    Effect.suspend(() => {
      served.attachment.outbox.release()
      for (const kept of served.kept) services.keeper.drop(kept)
      return served.stop
    })
})

/** What runs the connections of sessions. */
export type Connections = ReturnType<typeof make>
