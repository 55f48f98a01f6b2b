/** What a runtime's `/metrics` says, in the text that Prometheus reads. */

export interface Sample {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

const sample = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?\s+(\S+)/
const label = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"/g

const number = (text: string): number =>
  text === "+Inf" ? Number.POSITIVE_INFINITY : text === "-Inf" ? Number.NEGATIVE_INFINITY : Number(text)

/** Reads the samples. */
export const parse = (text: string): ReadonlyArray<Sample> => {
  const samples: Array<Sample> = []
  for (const line of text.split("\n")) {
    if (line.startsWith("#")) continue
    const [, name, labels = "", value] = sample.exec(line) ?? []
    if (name === undefined || value === undefined) continue
    const read = Object.fromEntries(
      [...labels.matchAll(label)].map(([, key = "", said = ""]) => [
        key,
        said.replace(/\\(.)/g, (_, c: string) => (c === "n" ? "\n" : c))
      ])
    )
    samples.push({ name, labels: read, value: number(value) })
  }
  return samples
}

/** Returns the sum of all samples of a name, by the labels that are asked for; `undefined` when there is none. */
export const total = (
  samples: ReadonlyArray<Sample>,
  name: string,
  labels: Readonly<Record<string, string>> = {}
): number | undefined => {
  const matching = samples.filter(
    (found) =>
      found.name === name && Object.entries(labels).every(([key, value]) => found.labels[key] === value)
  )
  return matching.length === 0 ? undefined : matching.reduce((sum, { value }) => sum + value, 0)
}

/** Returns the quantile of a histogram, of what has come between two readings of it. */
export const quantile = (
  samples: ReadonlyArray<Sample>,
  earlier: ReadonlyArray<Sample>,
  name: string,
  q: number
): number | undefined => {
  const counts = (of: ReadonlyArray<Sample>) => {
    const buckets = new Map<number, number>()
    for (const { labels, name: found, value } of of)
      if (found === `${name}_bucket`) {
        const le = number(labels["le"] ?? "")
        buckets.set(le, (buckets.get(le) ?? 0) + value)
      }
    return buckets
  }
  const before = counts(earlier)
  const buckets = [...counts(samples)]
    .map(([le, value]) => [le, value - (before.get(le) ?? 0)] as const)
    .sort(([a], [b]) => a - b)
  const all = buckets.at(-1)?.[1] ?? 0
  if (all <= 0) return undefined
  const found = buckets.find(([, value]) => value >= q * all)
  return found === undefined || !Number.isFinite(found[0]) ? buckets.at(-2)?.[0] : found[0]
}
