/**
 * The chunks of a streamed result as they are in a log: all of them, or a failure. They go like any other event when the log of their
 * job is cut, and of a job that was run again there may be those of a result that was begun before; so what is read is
 * compared with what the end of the job says of it. A part is never taken for the whole.
 */
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { ResumeWindowExpired } from "../../protocol/Errors.js"
import { type ResultChunk, readChunk, sizeOfChunk } from "../../protocol/ResultChunks.js"
import { Turn } from "../../services/runtime/Turn.js"
import type { StoredEvent, StoreError, StoreService } from "../../services/store/Store.js"
import { damagedEvent } from "../store/damage.js"
import { onward } from "../store/onward.js"
import { PageSize } from "./PageSize.js"

/** What the end of a job says of its streamed result. */
export interface StreamedResult {
  readonly id: string
  /** Decoded bytes. */
  readonly size: number
}

const missing = new ResumeWindowExpired({ message: "parts of the result are no longer retained" })

const read = (jobId: string, { payload, seq }: StoredEvent): Effect.Effect<ResultChunk, StoreError> =>
  Effect.suspend(() => {
    const chunk = readChunk(payload)
    return chunk === undefined
      ? damagedEvent("the store", jobId, seq, "it is no chunk of a result")
      : Effect.succeed(chunk)
  })

/** Returns the chunks of a result among the events of its job, in their order; fails where one is missing, also at the end. */
export const chunksOf = <E>(
  events: Stream.Stream<StoredEvent, E>,
  jobId: string,
  { id, size }: StreamedResult
): Stream.Stream<ResultChunk, E | StoreError | ResumeWindowExpired> =>
  Stream.suspend(() => {
    let chunks = 0
    let bytes = 0
    const isNext = (chunk: ResultChunk): boolean => {
      bytes += sizeOfChunk(chunk)
      return chunk.chunk_seq === chunks++ && bytes <= size
    }
    return events.pipe(
      Stream.filter(({ kind }) => kind === "result_chunk"),
      Stream.mapEffect((event) => read(jobId, event)),
      Stream.filter((chunk) => chunk.result_id === id),
      Stream.tap((chunk) => (isNext(chunk) ? Effect.void : missing)),
      Stream.concat(Stream.suspend(() => (bytes === size ? Stream.empty : Stream.fail(missing))))
    )
  })

/** Returns the retained events of a job up to `to`, with a turn of the event loop between two pages: they may be very many. */
export const eventsUpTo = (
  store: Pick<StoreService, "events">,
  jobId: string,
  to: number
): Stream.Stream<StoredEvent, StoreError> =>
  Stream.suspend(() => {
    const page = new PageSize()
    return Stream.paginateChunkEffect(1, (from) =>
      Effect.gen(function* () {
        if (from > 1) yield* (yield* Turn).next
        const events = yield* store.events(jobId, from, Math.min(page.count, to - from + 1))
        page.read(events)
        const last = events.at(-1)
        // A log that was cut begins later than it was asked for.
        const next =
          last === undefined || last.seq >= to ? Option.none() : Option.some(onward(from, last.seq + 1))
        return [Chunk.unsafeFromArray(events.filter(({ seq }) => seq <= to)), next]
      })
    )
  })
