/** Keeps the metrics of runtimes: asks for gauges when they are read, and bounds what labels say. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import * as Layer from "effect/Layer"
import {
  fromZero,
  Metrics,
  type MetricsService,
  other,
  type Sample,
  type Source
} from "../../services/runtime/Metrics.js"
import { within } from "../../services/runtime/within.js"

/** Agents that are counted apart, and currencies that are made up. */
const maxAgents = 200
const maxCurrencies = 32

/** Currencies of ISO 4217. */
const money: ReadonlySet<string> = new Set(Intl.supportedValuesOf("currency"))

/** How long a reading waits for what it asks. */
const patience = "1 second"

/** One source, and what it has last told: gauges of several are added up, so each takes its own part back. */
class Telling {
  private told = new Map<string, Sample>()
  private isOver = false

  constructor(private readonly source: Source) {}

  /** Asks the source, and brings the gauges up to date. */
  readonly ask: Effect.Effect<void> = Effect.suspend(() => this.source).pipe(
    Effect.map((samples) => this.tell(samples)),
    Effect.catchAllCause((cause) => Effect.logWarning("metrics could not be read", cause))
  )
  /** Takes back what it has told. What was asked for before, and comes after, would stay in the gauges for ever. */
  end(): void {
    this.tell([])
    this.isOver = true
  }
  private tell(samples: ReadonlyArray<Sample>): void {
    if (this.isOver) return
    const now = new Map(samples.map((sample) => [keyOf(sample), sample]))
    for (const [key, sample] of now) add(sample, sample[1] - (this.told.get(key)?.[1] ?? 0))
    for (const [key, sample] of this.told) if (!now.has(key)) add(sample, -sample[1])
    this.told = now
  }
}

const keyOf = ([{ name }, , ...labels]: Sample): string => [name, ...labels].join("\0")

const add = ([family, , ...labels]: Sample, by: number): void => family.of(...labels).unsafeModify(by, [])

/** Returns what bounds the values of a label: the first so many are themselves. */
const firstOf = (max: number) => {
  const known = new Set<string>()
  return {
    known,
    learn: (value: string): string => {
      if (known.size < max) known.add(value)
      return known.has(value) ? value : other
    }
  }
}

const make = (): MetricsService => {
  for (const [family, ...labels] of fromZero) family.update(0, ...labels)
  const tellings = new Set<Telling>()
  const agents = firstOf(maxAgents)
  const currencies = firstOf(maxCurrencies)
  let reading: Deferred.Deferred<void> | undefined
  const askAll = Effect.suspend(() =>
    Effect.forEach([...tellings], (telling) => telling.ask, { concurrency: "unbounded", discard: true })
  )
  /** Whoever comes while a reading goes on waits for that one, which goes on when nobody waits any more. */
  const once = Effect.suspend(() => {
    if (reading !== undefined) return Deferred.await(reading)
    const done = Deferred.unsafeMake<void>(FiberId.none)
    reading = done
    const read = Effect.ensuring(
      askAll,
      Effect.sync(() => {
        reading = undefined
        Deferred.unsafeDone(done, Effect.void)
      })
    )
    return Effect.zipRight(Effect.forkDaemon(read), Deferred.await(done))
  })
  return {
    know: (names) => {
      for (const name of names) agents.learn(name)
    },
    agent: (ref) => {
      const at = ref.indexOf("@")
      const name = at < 0 ? ref : ref.slice(0, at)
      return agents.known.has(name) ? name : other
    },
    currency: (code, isBudgeted) =>
      money.has(code) || currencies.known.has(code) ? code : isBudgeted ? currencies.learn(code) : other,
    watch: (source) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          const telling = new Telling(source)
          tellings.add(telling)
          return telling
        }),
        (telling) =>
          Effect.sync(() => {
            tellings.delete(telling)
            telling.end()
          })
      ),
    refresh: within(once, patience)
  }
}

/** Keeps the metrics of the runtimes that this is provided to. Metrics are the process's: those of several are added up. */
export const layer = (): Layer.Layer<Metrics> => Layer.sync(Metrics, make)

export { Metrics, type MetricsService, type Sample, type Source } from "../../services/runtime/Metrics.js"
