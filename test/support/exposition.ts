/**
 * A strict reader of the Prometheus text format 0.0.4, written from its description and not from what writes it here: every
 * line has its place, each sample is there once, histograms are cumulative and whole. Throws with the line that is wrong.
 */
export interface ReadSample {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}
export interface ReadFamily {
  readonly name: string
  readonly type: string
  readonly help: string
  readonly samples: ReadonlyArray<ReadSample>
}

const metricName = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/
const labelName = /^[a-zA-Z_][a-zA-Z0-9_]*$/

const fail = (line: string, why: string): never => {
  throw new Error(`${why}: ${JSON.stringify(line)}`)
}

const unescaped = (text: string, line: string, quotes: boolean): string => {
  let out = ""
  for (let i = 0; i < text.length; i++) {
    if (text[i] !== "\\") {
      out += text[i]
      continue
    }
    const next = text[++i]
    if (next === "\\") out += "\\"
    else if (next === "n") out += "\n"
    else if (next === '"' && quotes) out += '"'
    else fail(line, "an escape that the format does not have")
  }
  return out
}

const numberOf = (text: string, line: string): number => {
  if (text === "+Inf") return Number.POSITIVE_INFINITY
  if (text === "-Inf") return Number.NEGATIVE_INFINITY
  if (text === "NaN") return Number.NaN
  if (!/^[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?$/i.test(text)) fail(line, "no number")
  return Number(text)
}

const sampleOf = (line: string): ReadSample => {
  const name = /^[^{ ]+/.exec(line)?.[0] ?? ""
  if (!metricName.test(name)) fail(line, "no name of a metric")
  let at = name.length
  const labels: Record<string, string> = {}
  if (line[at] === "{") {
    at++
    while (line[at] !== "}") {
      const equals = line.indexOf('="', at)
      if (equals < 0) fail(line, "a label without a value")
      const label = line.slice(at, equals)
      if (!labelName.test(label)) fail(line, "no name of a label")
      if (Object.hasOwn(labels, label)) fail(line, "a label that comes twice")
      let end = equals + 2
      while (line[end] !== '"') {
        if (end >= line.length) fail(line, "a value without an end")
        end += line[end] === "\\" ? 2 : 1
      }
      labels[label] = unescaped(line.slice(equals + 2, end), line, true)
      at = end + 1
      if (line[at] === ",") at++
      else if (line[at] !== "}") fail(line, "no comma between labels")
    }
    at++
  }
  if (line[at] !== " ") fail(line, "no space before the value")
  return { name, labels, value: numberOf(line.slice(at + 1), line) }
}

/** Names that samples of a family may have. */
const suffixes: Readonly<Record<string, ReadonlyArray<string>>> = {
  counter: [""],
  gauge: [""],
  untyped: [""],
  histogram: ["_bucket", "_sum", "_count"],
  summary: ["", "_sum", "_count"]
}

const without = (labels: Readonly<Record<string, string>>, name: string): string =>
  JSON.stringify(Object.entries(labels).filter(([label]) => label !== name))

const checkHistogram = ({ name, samples }: ReadFamily): void => {
  const groups = new Map<string, Array<ReadSample>>()
  for (const sample of samples) {
    const key = without(sample.labels, "le")
    groups.set(key, [...(groups.get(key) ?? []), sample])
  }
  for (const [key, group] of groups) {
    const buckets = group.filter((sample) => sample.name === `${name}_bucket`)
    const bounds = buckets.map(({ labels }) => numberOf(labels["le"] ?? "", `${name} ${key}`))
    const count = group.find((sample) => sample.name === `${name}_count`)
    if (count === undefined || !group.some((sample) => sample.name === `${name}_sum`))
      fail(name, "a histogram without _sum or _count")
    if (bounds.at(-1) !== Number.POSITIVE_INFINITY) fail(name, "a histogram that does not end with +Inf")
    if (buckets.at(-1)?.value !== count?.value) fail(name, "a +Inf bucket that is not the count")
    for (let i = 1; i < buckets.length; i++) {
      if (!((bounds[i] as number) > (bounds[i - 1] as number))) fail(name, "bounds that do not ascend")
      if ((buckets[i]?.value ?? 0) < (buckets[i - 1]?.value ?? 0))
        fail(name, "buckets that are not cumulative")
    }
  }
}

/** Reads an exposition. */
export const readExposition = (text: string): ReadonlyMap<string, ReadFamily> => {
  if (text === "") return new Map()
  if (!text.endsWith("\n")) throw new Error("the last line does not end")
  const families = new Map<string, { name: string; type: string; help: string; samples: Array<ReadSample> }>()
  const seen = new Set<string>()
  let current: { name: string; type: string; help: string; samples: Array<ReadSample> } | undefined
  for (const line of text.slice(0, -1).split("\n")) {
    if (line.endsWith("\r")) fail(line, "a carriage return at its end")
    const head = /^# (HELP|TYPE) ([^ ]+) ?(.*)$/.exec(line)
    if (head !== null) {
      const [, what, name = "", rest = ""] = head
      if (!metricName.test(name)) fail(line, "no name of a metric")
      if (current?.name !== name) {
        if (families.has(name)) fail(line, "a family that was over")
        current = { name, type: "", help: "", samples: [] }
        families.set(name, current)
      }
      if (current.samples.length > 0) fail(line, `${what} after samples`)
      if (what === "HELP") {
        if (current.help !== "" || current.type !== "") fail(line, "HELP twice, or after TYPE")
        current.help = unescaped(rest, line, false)
      } else {
        if (current.type !== "") fail(line, "TYPE twice")
        if (!Object.hasOwn(suffixes, rest)) fail(line, "no type")
        current.type = rest
      }
      continue
    }
    if (line.startsWith("#")) continue
    const sample = sampleOf(line)
    const family = current ?? fail(line, "a sample without a family")
    if (!(suffixes[family.type] ?? []).some((suffix) => `${family.name}${suffix}` === sample.name))
      fail(line, `a sample that is none of ${family.name}`)
    const key = `${sample.name} ${JSON.stringify(Object.entries(sample.labels).sort())}`
    if (seen.has(key)) fail(line, "a sample that comes twice")
    seen.add(key)
    if (family.type === "counter" && !(sample.value >= 0)) fail(line, "a counter below 0")
    family.samples.push(sample)
  }
  for (const family of families.values()) if (family.type === "histogram") checkHistogram(family)
  return families
}

/** Returns the value of a sample. */
export const sampleIn = (
  families: ReadonlyMap<string, ReadFamily>,
  name: string,
  labels: Readonly<Record<string, string>> = {}
): number | undefined => {
  const wanted = JSON.stringify(Object.entries(labels).sort())
  for (const { samples } of families.values())
    for (const sample of samples)
      if (sample.name === name && JSON.stringify(Object.entries(sample.labels).sort()) === wanted)
        return sample.value
  return undefined
}
