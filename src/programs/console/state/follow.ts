/** Jobs that are looked at: each is followed once, with its history, and what it has delegated to with it. */
import { effect, type Signal, signal } from "@preact/signals"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import { isArcpError, JobNotFound, ResumeWindowExpired } from "../../../protocol/Errors.js"
import type { Body } from "../../../protocol/Event.js"
import type * as Message from "../../../protocol/Message.js"
import type { ArcpClientService, ClientError } from "../../../services/client/ArcpClient.js"
import { Held } from "../model/Held.js"
import { childEnded, type End, empty, ended, type JobModel, mark, take } from "../model/JobModel.js"
import type { Entry } from "../model/JobTable.js"
import { Pieces } from "../model/Streamed.js"
import { sizeOf } from "../model/values.js"
import { catchingUp } from "./catchingUp.js"
import { client } from "./connection.js"
import { table, version as tableVersion, verifyListed } from "./jobs.js"
import { onConnection } from "./presence.js"
import { inTurn } from "./turns.js"

/** A job that is followed. */
export interface Followed {
  readonly jobId: string
  /** What is known of it; another one when it is followed anew. Whoever draws it draws again when something has come. */
  readonly model: JobModel
  /** Changes when something has come. */
  readonly version: Signal<number>
  readonly subscribed: Signal<Message.Subscribed | undefined>
  readonly problem: Signal<ClientError | undefined>
  readonly children: Signal<ReadonlyArray<{ readonly entry: Entry; readonly job: Followed }>>
  /** Whether it has delegated to more than its children here. */
  readonly hasMore: Signal<boolean>
  /** Whether events of the past are still coming, of one that goes on. */
  readonly isBehind: Signal<boolean>
}

/** Jobs that one job shows below it, and how deep. */
const mostChildren = 24
export const deepest = 4
/** What is followed at once, looked at or not: jobs, and bytes of their events and results. */
const most = { jobs: 48, bytes: 128_000_000 }
/** Bytes that an event takes beside what it says, roughly. */
const eventBytes = 500

class Kept implements Followed {
  readonly version = signal(0)
  readonly subscribed = signal<Message.Subscribed | undefined>(undefined)
  readonly problem = signal<ClientError | undefined>(undefined)
  readonly children = signal<ReadonlyArray<{ readonly entry: Entry; readonly job: Kept }>>([])
  readonly hasMore = signal(false)
  readonly isBehind = signal(false)
  fiber: Fiber.RuntimeFiber<unknown, unknown> | undefined
  /** The model, for those who change it. */
  state = empty()
  /** Bytes of the events, and of the result as far as it is kept, roughly. */
  eventBytes = 0
  resultBytes = 0
  /** Whether less of it is kept than would be if it were looked at. */
  isCut = false

  /** `depth`: how far it is below the nearest job that somebody has looked at. */
  constructor(
    readonly jobId: string,
    public depth: number
  ) {}

  get bytes(): number {
    return this.eventBytes + this.resultBytes
  }

  get model(): JobModel {
    // A view that reads it depends on all of it.
    void this.version.value
    return this.state
  }
}

const held = new Held<Kept>(most, (job) => {
  if (job.fiber !== undefined) Effect.runFork(Fiber.interrupt(job.fiber))
})

/** Makes room for more bytes of a job, and returns whether there is any; where not, it is followed anew when it is looked at. */
const grow = (job: Kept, bytes: number): boolean => {
  const mayGrow = held.grow(job.jobId, bytes)
  if (!mayGrow && !held.isLookedAt(job.jobId)) job.isCut = true
  return mayGrow
}

/** Shows what has come a few times a second, and less often when showing it takes long. */
const flusher = (job: Followed) => {
  let waiting = false
  let took = 0
  return () => {
    if (waiting) return
    waiting = true
    setTimeout(
      () => {
        const since = performance.now()
        waiting = false
        job.version.value++
        // The views have drawn when this frame is over.
        requestAnimationFrame(() => setTimeout(() => (took = performance.now() - since)))
      },
      Math.min(1_000, Math.max(60, took * 3))
    )
  }
}

const sessionCodes = new Set(["RESUME_WINDOW_EXPIRED", "UNAUTHENTICATED", "HEARTBEAT_LOST", "JOB_NOT_FOUND"])
const statusOf = (code: string) =>
  code === "CANCELLED" ? "cancelled" : code === "TIMEOUT" ? "timed_out" : "error"

/** The end of a job that an error is; `undefined` when it is about something else. */
const endOf = (error: ClientError): End | undefined =>
  isArcpError(error) && !sessionCodes.has(error.code)
    ? {
        status: statusOf(error.code),
        code: error.code,
        message: error.message,
        details: error.details,
        retryable: error.retryable
      }
    : undefined

/** What is shown of a result whose first chunks the runtime has forgotten. */
const resultGone = new ResumeWindowExpired({
  message: "the beginning of the result is no longer retained",
  details: { reason: "result_gone" }
})

const following = (made: ArcpClientService, job: Kept, flush: () => void) =>
  Effect.gen(function* () {
    const handle = yield* made.subscribe(job.jobId, { history: true })
    const model = empty()
    job.state = model
    job.eventBytes = 0
    job.resultBytes = 0
    job.subscribed.value = handle.subscribed
    job.problem.value = undefined
    yield* Effect.forkScoped(catchingUp(job.isBehind, model.times))
    let first: Body<"result_chunk"> | undefined
    const delegated = yield* Queue.sliding<void>(1)
    const events = yield* Effect.fork(
      Stream.runForEach(handle.events, (event) =>
        Effect.sync(() => {
          if (event.kind === "result_chunk") first ??= event.body
          if (event.kind === "delegate") Queue.unsafeOffer(delegated, undefined)
          take(model, event)
          const bytes = eventBytes + sizeOf(model.events.at(-1)?.body)
          // An event that is left out would make the rest wrong: it is kept, and others make room as far as they can.
          held.grow(job.jobId, bytes)
          job.eventBytes += bytes
          flush()
        })
      )
    )
    const looking = yield* Effect.fork(children(made, job, model, Queue.take(delegated)))
    const allEvents = Effect.ignore(Fiber.join(events))
    const pieces = new Pieces((bytes) => grow(job, bytes))
    const result = yield* Stream.runForEach(handle.chunks, (bytes) =>
      Effect.sync(() => {
        pieces.add(bytes)
        job.resultBytes = pieces.kept
      })
    ).pipe(
      Effect.zipRight(allEvents),
      // A value, when the job has ended with one, whatever an attempt before had begun to stream. Of a result in pieces, which were
      // read here, there is none.
      Effect.zipRight(
        Effect.catchAll(handle.result, (error) =>
          first === undefined ? Effect.fail(error) : Effect.succeed(pieces.whole(first.encoding !== "base64"))
        )
      ),
      Effect.either
    )
    yield* allEvents
    yield* Fiber.interrupt(looking)
    yield* Effect.ignore(findChildren(made, job))
    const end: End | undefined =
      result._tag === "Right" ? { status: "success", result: result.right } : endOf(result.left)
    if (end === undefined && result._tag === "Left")
      job.problem.value = (first?.chunk_seq ?? 0) > 0 ? resultGone : result.left
    if (end !== undefined) {
      const at = Date.parse((yield* handle.completedAt) ?? "")
      ended(model, end, Number.isNaN(at) ? undefined : at)
      for (const above of held.values())
        if (above.children.peek().some((child) => child.job === job)) endChildren(above)
    }
    if (end?.status === "success" && first === undefined) {
      const bytes = sizeOf(end.result)
      held.grow(job.jobId, bytes)
      job.resultBytes = bytes
    }
    flush()
  }).pipe(
    Effect.scoped,
    (followed) => inTurn(job.jobId, followed),
    Effect.catchAll((error) =>
      Effect.sync(() => {
        job.problem.value = error
        if (isArcpError(error) && error.code === "JOB_NOT_FOUND") isGone(job.jobId)
        flush()
      })
    )
  )

/** Notes that a job has been deleted, or is not retained any more: of one that has ended nobody tells. */
const isGone = (jobId: string): void => {
  table.drop(jobId)
  tableVersion.value++
}

/** What was known of a job that is not there any more is forgotten here, too. */
const forget = (jobId: string): void => {
  const job = held.get(jobId)
  if (job !== undefined) {
    if (job.fiber !== undefined) Effect.runFork(Fiber.interrupt(job.fiber))
    job.state = empty()
    job.eventBytes = 0
    job.resultBytes = 0
    job.children.value = []
    job.subscribed.value = undefined
    job.problem.value = new JobNotFound({ message: "no such job" })
    job.version.value++
  }
  for (const above of held.values()) {
    const left = above.children.peek().filter((child) => child.job.jobId !== jobId)
    if (left.length < above.children.peek().length) above.children.value = left
  }
}
table.watchDrops(forget)

/** Asks whether a job that has ended is still there. */
export const verify = async (jobId: string): Promise<void> => {
  const made = client.peek()
  if (made === undefined) return
  const entry = table.get(jobId)
  // Whoever may look at it may not always list it.
  const asked: Effect.Effect<void, ClientError> =
    entry === undefined
      ? Effect.catchTag(inTurn(jobId, Effect.scoped(made.subscribe(jobId))), "JobNotFound", () =>
          Effect.sync(() => isGone(jobId))
        )
      : verifyListed(made, entry)
  await Effect.runPromise(Effect.ignore(asked))
}

/** Follows a job below another one, as long as there is room. */
const followBelow = (above: Kept, jobId: string): Kept | undefined => {
  const known = held.get(jobId)
  if (known !== undefined) {
    held.join(jobId, above.jobId)
    raise(known, above.depth + 1)
    return known
  }
  const job = new Kept(jobId, above.depth + 1)
  if (!held.add(job, above.jobId)) return undefined
  start(job)
  return job
}

/** Notes that a job is nearer to one that somebody has looked at, so that more of what it has delegated to is shown. */
const raise = (job: Kept, depth: number): void => {
  if (depth >= job.depth) return
  const before = job.depth
  job.depth = depth
  for (const { job: child } of job.children.peek()) raise(child, depth + 1)
  const made = client.peek()
  if (before >= deepest && made !== undefined) Effect.runFork(Effect.ignore(findChildren(made, job)))
}

const findChildren = (made: ArcpClientService, job: Kept): Effect.Effect<void, ClientError> =>
  Effect.gen(function* () {
    if (job.depth >= deepest) return
    const entries = yield* Stream.runCollect(
      Stream.take(made.list({ parent_job_id: job.jobId }), mostChildren + 1)
    )
    const children = [...entries].slice(0, mostChildren).flatMap((entry) => {
      const child = followBelow(job, entry.job_id)
      return child === undefined ? [] : [{ entry, job: child }]
    })
    if (children.length !== job.children.peek().length) job.children.value = children
    job.hasMore.value = children.length < entries.length
    endChildren(job)
  })

/** Ends what a job has delegated to jobs that have ended. */
const endChildren = (job: Kept): void => {
  for (const { entry, job: child } of job.children.peek()) {
    const { end, endedAt, times } = child.state
    if (entry.delegate_id === undefined || end === undefined) continue
    if (childEnded(job.state, entry.delegate_id, end, endedAt ?? times.at(-1) ?? Date.now()))
      job.version.value++
  }
}

/** Looks for delegated jobs while the job delegates. */
const children = (made: ArcpClientService, job: Kept, model: JobModel, delegated: Effect.Effect<void>) =>
  Effect.gen(function* () {
    let seen = 0
    for (;;) {
      if (job.depth >= deepest) {
        yield* Effect.sleep("1 second")
        continue
      }
      const delegations = model.spans.length
      const open = [...model.open.values()].some(({ lane }) => lane === "delegate")
      if (open || (delegations > seen && model.spans.slice(seen).some(({ lane }) => lane === "delegate")))
        yield* findChildren(made, job)
      seen = delegations
      yield* Effect.race(Effect.sleep("1 second"), delegated)
    }
  }).pipe(Effect.ignore)

/** What passes by itself, as a store that does not answer, is not for whoever looks to try again. */
export const mayPass = (error: ClientError | undefined): boolean =>
  error !== undefined && isArcpError(error) && error.retryable

/** Between two tries to follow a job. */
const again = "2 seconds"

/** Follows a job for as long as this session is there, through what passes. */
const followingOn = (made: ArcpClientService, job: Kept) =>
  Effect.gen(function* () {
    const flush = flusher(job)
    for (;;) {
      yield* following(made, job, flush)
      if (job.state.end !== undefined || !mayPass(job.problem.peek())) return
      yield* Effect.sleep(again)
    }
  })

const start = (job: Kept): void => {
  const made = client.peek()
  if (made === undefined) return
  job.isCut = false
  const before = job.fiber === undefined ? Effect.void : Fiber.interrupt(job.fiber)
  job.fiber = Effect.runFork(Effect.zipRight(before, followingOn(made, job)))
}

/** Follows a job that is looked at, or goes on with one that is followed. */
export const follow = (jobId: string): Followed => {
  const known = held.get(jobId)
  if (known !== undefined) {
    held.look(jobId)
    raise(known, 0)
    if (known.isCut || (known.problem.peek() !== undefined && known.state.end === undefined)) start(known)
    return known
  }
  const job = new Kept(jobId, 0)
  held.begin(job)
  start(job)
  return job
}

/** A job if it is followed. */
export const known = (jobId: string): Followed | undefined => held.get(jobId)

onConnection((value) => {
  for (const job of held.values())
    if (job.state.end === undefined) {
      mark(job.state, value, Date.now())
      job.version.value++
    }
})

// A session of its own has none of the subscriptions of the one before.
let last: ArcpClientService | undefined
effect(() => {
  const made = client.value
  if (made === undefined || made === last) return
  last = made
  for (const job of held.values()) if (job.state.end === undefined) start(job)
})

/** The entry of a job in the list, if it is there. */
export const entryOf = (jobId: string): Entry | undefined => {
  void tableVersion.value
  return table.get(jobId)
}
