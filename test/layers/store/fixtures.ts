/** What the suites of the store put into it. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import {
  type JobRecord,
  Op,
  type Run,
  type SessionRecord,
  Store,
  type StoredEvent,
  type StoreService,
  type Survival
} from "../../../src/services/store/Store.js"

/** Of a durable job that has begun once. */
export const survival: Survival = {
  restart: "steps",
  identity: {},
  features: [],
  attempt: 1,
  deaths: 0,
  progress: 0
}

export const aJob = (jobId: string, fields: Partial<JobRecord> = {}): JobRecord => ({
  jobId,
  sessionId: "sess_a",
  submitId: `submit-${jobId}`,
  principal: "alice",
  agent: "echo@1.0.0",
  status: "running",
  rejected: false,
  lease: { "fs.read": ["/src/**"] },
  traceId: "4bf92f3577b34da6a3ce929d0e0e4736",
  createdAt: 1_000,
  lastEventSeq: 0,
  ...fields
})

export const aSession = (sessionId: string, fields: Partial<SessionRecord> = {}): SessionRecord => ({
  sessionId,
  principal: "alice",
  version: "1.1",
  features: ["ack", "heartbeat"],
  createdAt: 1_000,
  lastSeenAt: 2_000,
  attached: true,
  tokenDigest: "digest",
  acked: 0,
  ...fields
})

/** Events `from` … `to` of a job. */
export const someEvents = (from: number, to: number, fields: Partial<StoredEvent> = {}): Array<StoredEvent> =>
  Array.from({ length: to - from + 1 }, (_, i) => ({
    seq: from + i,
    type: "job.event",
    kind: "log",
    audience: undefined,
    payload: `{"kind":"log","n":${from + i}}`,
    ...fields
  }))

export const aRun = (eventSeq: number, count: number, jobId = "job_a", jobSeq = eventSeq): Run => ({
  eventSeq,
  jobId,
  jobSeq,
  count,
  bytes: count * 100
})

export const seqs = (events: ReadonlyArray<StoredEvent>): Array<number> => events.map((event) => event.seq)
export const range = (from: number, to: number): Array<number> =>
  Array.from({ length: to - from + 1 }, (_, i) => from + i)

export const put = (job: JobRecord): Op => Op.PutJob({ job })
export const append = (jobId: string, from: number, to: number): Op =>
  Op.Append({ jobId, events: someEvents(from, to) })

/** Vacuums to the end; fails rather than going on for ever. */
export const vacuumAll = Effect.gen(function* () {
  const store = yield* Store
  for (let page = 0; page < 1_000; page++) if (!(yield* store.vacuum)) return
  assert.fail("vacuum never ends")
})

/** The oldest and the newest event that is retained of a job. */
export const boundsOf = (store: StoreService, jobId: string) =>
  Effect.map(store.boundsOf([jobId]), (found) => {
    const { first, last } = found.get(jobId) ?? { first: 1, last: 0 }
    return { first, last }
  })

export const observersOf = (store: StoreService, jobId: string) =>
  Effect.map(store.observersOf([jobId]), (found) => found.get(jobId) ?? [])
