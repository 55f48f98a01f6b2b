/** Matching of patterns, with targets and with other patterns. Each step is counted against an `Effort`. */
import {
  hostIndex,
  labelsOf,
  type Pieces,
  queryStart,
  type Segment,
  type Shape,
  segmentsOf
} from "./PatternShape.js"
import type { Effort } from "./Steps.js"

/** How the texts are to be read that segments are matched with. */
interface Reading {
  /** Is the text at this index the host, or may it be? */
  readonly isHost: (index: number) => boolean
  /** Are they those of a pattern? */
  readonly isPattern: boolean
  readonly effort: Effort
}

const nowhere = () => false

export const matchShape = (
  { kind, segments, query, open }: Shape,
  target: string,
  effort: Effort
): boolean => {
  if (effort.left < 0) return false
  effort.left -= splitting(target)
  const url = { isHost: (index: number) => kind === "url" && index === hostIndex, isPattern: false, effort }
  const matches = (pattern: ReadonlyArray<Segment>, text: string, reading: Reading = url) =>
    matchSegments(pattern, segmentsOf(kind, text), reading)
  const at = queryStart(kind, target)
  if (at < 0) return query === undefined && matches(segments, target)
  if (!matches(segments, target.slice(0, at))) return false
  return query === undefined
    ? open && matches(segments, target)
    : matches(query, target.slice(at + 1), { ...url, isHost: nowhere })
}

/**
 * The same with another pattern as the target: its wildcards are characters that only wildcards take, and its `**` a
 * segment that only a `**` takes.
 */
export const coverShape = (by: Shape, pattern: Shape, effort: Effort): boolean => {
  if (effort.left < 0) return false
  effort.left -= splitting(pattern.text)
  const { floating } = pattern
  const url = {
    isHost: (index: number) =>
      by.kind === "url" && (index === hostIndex || (floating >= 0 && index > floating)),
    isPattern: true,
    effort
  }
  const texts = (segments: ReadonlyArray<Segment>) => segments.map((segment) => segment.text)
  if (by.query !== undefined && pattern.query === undefined) return false
  if (!matchSegments(by.segments, texts(pattern.segments), url)) return false
  if (pattern.query === undefined) return true
  return by.query === undefined
    ? by.open && matchSegments(by.segments, segmentsOf(by.kind, pattern.text), url)
    : matchSegments(by.query, texts(pattern.query), { ...url, isHost: nowhere })
}

const matchSegments = (
  pattern: ReadonlyArray<Segment>,
  target: ReadonlyArray<string>,
  { isHost, isPattern, effort }: Reading
): boolean => {
  let p = 0
  let t = 0
  let deep = -1
  let from = 0
  const matches = (segment: Segment, text: string): boolean => {
    if (segment.literal) return segment.text === text
    if (isPattern && text === "**") return false
    effort.left -= cost(text)
    if (!isHost(t)) return matchPieces(segment.pieces, text)
    effort.left -= costOfHost
    return matchHost(segment, text)
  }
  while (t < target.length) {
    if (--effort.left < 0) return false
    const segment = pattern[p]
    if (segment?.deep) {
      deep = p++
      from = t
    } else if (segment !== undefined && matches(segment, target[t] as string)) {
      p++
      t++
    } else if (deep >= 0) {
      p = deep + 1
      t = ++from
    } else return false
  }
  while (pattern[p]?.deep) p++
  return p === pattern.length
}

/** Steps that it costs to go over a text once. */
const cost = (text: string): number => text.length >> 3

/** Steps that it costs to split a text into its segments. */
const splitting = (text: string): number => text.length >> 5

/** Steps that a host costs beside what each other segment does. */
const costOfHost = 4

/** The first piece at the start, the last at the end, and each of the others as early as it comes. */
const matchPieces = (pieces: Pieces, text: string): boolean => {
  const first = pieces[0] as string
  // A label may have no wildcard.
  if (pieces.length === 1) return text === first
  const last = pieces[pieces.length - 1] as string
  const end = text.length - last.length
  let at = first.length
  if (at > end || !text.startsWith(first) || !text.endsWith(last)) return false
  for (let i = 1; i < pieces.length - 1; i++) {
    const piece = pieces[i] as string
    const found = text.indexOf(piece, at)
    if (found < 0) return false
    at = found + piece.length
    if (at > end) return false
  }
  return true
}

/** In the host a wildcard crosses neither `.` nor `:`, so what is between those is matched label by label. */
const matchHost = (segment: Segment, text: string): boolean => {
  const { labels, marks } = labelsOf(segment)
  let from = 0
  for (let i = 0; i < labels.length; i++) {
    let to = from
    while (to < text.length && !isMark(text.charCodeAt(to))) to++
    if ((text[to] ?? "") !== (marks[i] ?? "")) return false
    if (!matchPieces(labels[i] as Pieces, text.slice(from, to))) return false
    from = to + 1
  }
  return true
}

/** `.` and `:` */
const isMark = (code: number): boolean => code === 46 || code === 58
