/** Metrics of the process: CPU, memory, open files, and how late the event loop is. */
import { readdir } from "node:fs/promises"
import { monitorEventLoopDelay } from "node:perf_hooks"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { families, Metrics, type Sample } from "../../services/runtime/Metrics.js"

/** Milliseconds between two looks at the event loop. */
const resolution = 20

/** How many files the process has open, where that can be told. */
const openFiles: Effect.Effect<number | undefined> = Effect.promise(() =>
  readdir("/proc/self/fd").then(
    // The folder that is being read is one.
    (names) => names.length - 1,
    () => undefined
  )
)

/** Nanoseconds to seconds; nothing has been measured yet where there is no number. */
const seconds = (nanoseconds: number): number =>
  Number.isFinite(nanoseconds) ? Math.max(0, nanoseconds / 1e9 - resolution / 1e3) : 0

const loopDelay: Effect.Effect<() => ReadonlyArray<Sample>, never, Scope.Scope> = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => {
      const delays = monitorEventLoopDelay({ resolution })
      delays.enable()
      return delays
    }),
    (delays) => Effect.sync(() => delays.disable())
  ),
  (delays) => () => {
    const samples: ReadonlyArray<Sample> = [
      [families.loopDelay, seconds(delays.percentile(50)), "p50"],
      [families.loopDelay, seconds(delays.percentile(99)), "p99"],
      [families.loopDelay, seconds(delays.max), "max"]
    ]
    delays.reset()
    return samples
  }
)

/** How long the process has used the CPU, in seconds. */
const cpuSeconds = (): number => {
  const { system, user } = process.cpuUsage()
  return (system + user) / 1e6
}

/** Measures this process for `Metrics`, as long as the layer lives. Give it once in a process. */
export const layer = (): Layer.Layer<never, never, Metrics> =>
  Layer.scopedDiscard(
    Effect.gen(function* () {
      const metrics = yield* Metrics
      const delays = yield* loopDelay
      let counted = 0
      yield* metrics.watch(
        Effect.map(openFiles, (files) => {
          const used = cpuSeconds()
          families.cpu.update(used - counted)
          counted = used
          const { external, heapTotal, heapUsed, rss } = process.memoryUsage()
          return [
            [families.resident, rss],
            [families.heapUsed, heapUsed],
            [families.heapTotal, heapTotal],
            [families.external, external],
            [families.resources, process.getActiveResourcesInfo().length],
            [families.started, performance.timeOrigin / 1_000],
            ...(files === undefined ? [] : [[families.files, files] as const]),
            ...delays()
          ]
        })
      )
    })
  )
