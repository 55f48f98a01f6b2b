/** The list of jobs, kept as it is at the runtime by asking for what may have changed. */
import { effect, signal } from "@preact/signals"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import type { ArcpClientService, ClientError } from "../../../services/client/ArcpClient.js"
import { type Entry, isOver, JobTable } from "../model/JobTable.js"
import { client } from "./connection.js"

export const table = new JobTable()
/** Changes with the table. */
export const version = signal(0)
/** Why the list is not as it is at the runtime. */
export const problem = signal("")
/** Whether older jobs are still being read. */
export const loading = signal(true)

const hour = 3_600_000
const iso = (ms: number) => new Date(ms).toISOString()

const takeAll = (entries: Stream.Stream<Entry, ClientError>) =>
  Stream.runForEachChunk(entries, (chunk) =>
    Effect.sync(() => {
      if (table.take([...chunk])) version.value++
    })
  )

/** Reads what there is, the newest first: a listing has the oldest first, and there may be many. */
const initial = (made: ArcpClientService) =>
  Effect.gen(function* () {
    const now = Date.now()
    loading.value = true
    yield* takeAll(made.list({ created_after: iso(now - hour) }))
    yield* takeAll(made.list({ status: ["pending", "running"] }))
    yield* takeAll(made.list({ created_after: iso(now - 24 * hour), created_before: iso(now - hour) }))
    yield* takeAll(made.list({ created_before: iso(now - 24 * hour) }))
    loading.value = false
    version.value++
  })

/** Asks for the jobs that were submitted around then; one that is not there any more is forgotten. */
const again = (made: ArcpClientService, gone: ReadonlyArray<Entry>) =>
  Effect.gen(function* () {
    const times = gone.map(({ created_at }) => Date.parse(created_at))
    const found = new Set<string>()
    const window = made.list({
      created_after: iso(Math.min(...times) - 1),
      created_before: iso(Math.max(...times) + 1)
    })
    yield* takeAll(Stream.tap(window, ({ job_id }) => Effect.sync(() => found.add(job_id))))
    for (const { job_id } of gone) if (!found.has(job_id)) table.drop(job_id)
    version.value++
  })

/** Jobs of one question for those that have ended. */
const atOnce = 50

const refresh = (made: ArcpClientService) =>
  Effect.gen(function* () {
    const before = table.active()
    const still = new Set<string>()
    yield* takeAll(
      Stream.tap(made.list({ status: ["pending", "running"] }), ({ job_id }) =>
        Effect.sync(() => still.add(job_id))
      )
    )
    const newest = table.newest()
    if (newest !== undefined) yield* takeAll(made.list({ created_after: iso(Date.parse(newest) - 1) }))
    const gone = before.filter(({ job_id }) => {
      const entry = table.get(job_id)
      return entry !== undefined && !still.has(job_id) && !isOver(entry.status)
    })
    for (let i = 0; i < gone.length; i += atOnce) yield* again(made, gone.slice(i, i + atOnce))
  })

/** Milliseconds after which it is looked again however long a look takes: on a busy machine one may take many seconds. */
const longest = 10_000

/**
 * Milliseconds between two looks: soon while something runs and somebody looks, and no more than a tenth of the time, as far as that
 * is not for too long.
 */
const pause = (took: number) =>
  Math.max(
    document.hidden ? longest : table.active().length > 0 ? 1_000 : 2_500,
    Math.min(longest, took * 10)
  )

const keep = (made: ArcpClientService) =>
  Effect.gen(function* () {
    yield* initial(made)
    for (;;) {
      const since = performance.now()
      yield* refresh(made)
      problem.value = ""
      yield* Effect.race(
        Effect.sleep(pause(performance.now() - since)),
        Effect.promise(() => asked)
      )
    }
  }).pipe(
    Effect.tapError((error) =>
      Effect.sync(() => {
        problem.value = error.message
      })
    ),
    Effect.retry({ while: () => client.value === made, schedule: Schedule.spaced("3 seconds") })
  )

let ask = () => {}
let asked = new Promise<void>((resolve) => {
  ask = resolve
})
/** Looks again at once, since something was done here. */
export const lookAgain = (): void => {
  ask()
  asked = new Promise((resolve) => {
    ask = resolve
  })
}

let running: Fiber.RuntimeFiber<unknown, unknown> | undefined
effect(() => {
  const made = client.value
  if (running !== undefined) Effect.runFork(Fiber.interrupt(running))
  running = made === undefined ? undefined : Effect.runFork(keep(made))
})
