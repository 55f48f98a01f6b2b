/** What the definitions of figures have in common. */

/** Characters of a message. */
export const size = 100

/** Stores as the report names them. */
export const storeName = {
  memory: "memory",
  FULL: "SQLite FULL",
  NORMAL: "SQLite NORMAL",
  postgres: "Postgres"
}

export const rate = (unit, target, label) => ({ rate: { unit, better: "higher", target, label } })

/** Metrics in milliseconds: `{ p50, p99, max }`. */
export const latency = (labels, targets = {}) =>
  Object.fromEntries(
    Object.entries(labels).map(([name, label]) => [
      name,
      { unit: "ms", better: "lower", label, target: targets[name] }
    ])
  )

/** A number for people: 10³, 10 000. */
export const grouped = (n) => n.toLocaleString("en-US").replaceAll(",", " ")

const mebi = 1024 ** 2

/** Limits under which a store keeps `events` events, whoever has read them. */
export const keeping = (events) => [
  // In memory a sixteenth is kept.
  `maxRetainedEvents=${32 * events}`,
  `maxRetainedBytes=${64 * 1024 * mebi}`,
  `maxMemoryLogBytes=${16 * 1024 * mebi}`
]
