/**
 * Patterns (§9.2): segments split at `/`; `*` is any run of characters within one segment, a segment `**` any
 * number of segments, also none; anchored at both ends; nothing else is special.
 *
 * In a URL a `*` crosses neither `.` nor `:` of the host, so any port is `:*`. Without a `?` of its own a pattern
 * matches a URL with a query only if it ends with a wildcard and matches the URL without the query too: otherwise
 * `/secret?/a.json` would pass for what `**` and `/a.json` stand for.
 *
 * Matching goes once over the target and remembers one place to come back to, the last `**`; inside a segment it looks
 * for the pieces between the `*` one behind the other. At most pattern × target steps, whatever they are, and no more
 * than the `Effort` that is given to all the patterns together.
 */
import { decodeUnreserved, isUnclean, parseUrl, schemes, strayPercent, type TargetKind } from "./Target.js"

/** Steps that a decision may still take. Below zero nothing matches, and nothing is included. */
export interface Effort {
  left: number
}

const unlimited = (): Effort => ({ left: Number.POSITIVE_INFINITY })

export interface Pattern {
  /** As it was written. */
  readonly source: string
  /** As it is compared; `undefined` when it can match nothing. */
  readonly canonical: string | undefined
  /** The target must be canonical. */
  readonly matches: (target: string, effort?: Effort) => boolean
  /** The host of a URL pattern has no wildcard; its port may. */
  readonly literalHost: boolean
  /** What it is made of; `undefined` when it can match nothing. */
  readonly shape: Shape | undefined
}

export const compile = (kind: TargetKind, source: string): Pattern => {
  const canonical = canonicalPattern(kind, source)
  if (canonical === undefined)
    return { source, canonical, matches: () => false, literalHost: false, shape: undefined }
  const shape = shapeOf(kind, canonical)
  const { prefix, segments } = shape
  const matches: Pattern["matches"] = !canonical.includes("*")
    ? (target) => target === canonical
    : canonical === `${prefix}/**`
      ? // What most patterns are.
        (target) =>
          target.startsWith(prefix) && (target.length === prefix.length || target[prefix.length] === "/")
      : (target, effort = unlimited()) => target.startsWith(prefix) && matchShape(shape, target, effort)
  return {
    source,
    canonical,
    matches,
    literalHost:
      kind === "url" &&
      !(shape.floating >= 0 && shape.floating <= hostIndex) &&
      segments[hostIndex]?.text.replace(/:[0-9*]*$/, "").includes("*") === false,
    shape
  }
}

/**
 * Is every target of `pattern` a target of `by`, both of one kind? Proves it or says no: a wildcard is covered only by
 * one that is at least as wide. A pattern that can match nothing is not covered.
 */
export const includes = (
  { shape: wide }: Pattern,
  { shape: narrow }: Pattern,
  effort = unlimited()
): boolean => {
  if (wide === undefined || narrow === undefined) return false
  return narrow.text.startsWith(wide.prefix) && coverShape(wide, narrow, effort)
}

/** `includes` for patterns that are compared only once. */
export const covers = (kind: TargetKind, by: string, pattern: string): boolean =>
  includes(compile(kind, by), compile(kind, pattern))

// What a pattern is made of.

/** Literal text between the `*` of a segment: one piece is a literal segment. */
type Pieces = ReadonlyArray<string>

interface Segment {
  readonly text: string
  /** Without a wildcard. */
  readonly literal: boolean
  /** `**` */
  readonly deep: boolean
  readonly pieces: Pieces
  /** For where it meets the host: between its marks, `.` and `:`. */
  readonly labels: ReadonlyArray<Pieces>
  readonly marks: string
}

export interface Shape {
  readonly kind: TargetKind
  readonly text: string
  /** The segments without a wildcard with which every target begins. */
  readonly prefix: string
  /** Of a URL up to the `?`. */
  readonly segments: ReadonlyArray<Segment>
  /** Index of the first `**` among them, or -1. */
  readonly floating: number
  /** Of a URL behind the first `?`. */
  readonly query: ReadonlyArray<Segment> | undefined
  /** Ends with a wildcard, which takes a query too. */
  readonly open: boolean
}

const shapeOf = (kind: TargetKind, text: string): Shape => {
  const at = queryStart(kind, text)
  const split = (part: string) => segmentsOf(kind, part).map((segment) => segmentOf(kind, segment))
  const segments = split(at < 0 ? text : text.slice(0, at))
  const wild = segments.findIndex((segment) => !segment.literal)
  return {
    kind,
    text,
    prefix: (wild < 0 ? segments : segments.slice(0, wild)).map((segment) => segment.text).join("/"),
    segments,
    floating: segments.findIndex((segment) => segment.deep),
    query: at < 0 ? undefined : split(text.slice(at + 1)),
    open: text.endsWith("*")
  }
}

const queryStart = (kind: TargetKind, text: string): number => (kind === "url" ? text.indexOf("?") : -1)

/** The root has no segments but the one that every path begins with, so that `/*` is what is in it, not itself. */
const segmentsOf = (kind: TargetKind, text: string): ReadonlyArray<string> =>
  kind === "path" && text === "/" ? [""] : text.split("/")

const segmentOf = (kind: TargetKind, text: string): Segment => {
  const literal = !text.includes("*")
  const inHost = kind === "url" && !literal
  return {
    text,
    literal,
    deep: text === "**",
    pieces: literal ? [] : text.split("*"),
    labels: inHost ? text.split(/[.:]/).map((label) => label.split("*")) : [],
    marks: inHost ? text.replace(/[^.:]+/g, "") : ""
  }
}

/** Index of the host among the segments of a URL: `https:`, ``, host. */
const hostIndex = 2

// Matching.

/** How the texts are to be read that segments are matched with. */
interface Reading {
  /** Is the text at this index the host, or may it be? */
  readonly isHost: (index: number) => boolean
  /** Are they those of a pattern? */
  readonly isPattern: boolean
  readonly effort: Effort
}

const nowhere = () => false

const matchShape = ({ kind, segments, query, open }: Shape, target: string, effort: Effort): boolean => {
  if (effort.left < 0) return false
  effort.left -= cost(target)
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
const coverShape = (by: Shape, pattern: Shape, effort: Effort): boolean => {
  if (effort.left < 0) return false
  effort.left -= cost(pattern.text)
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
    return isHost(t) ? matchHost(segment, text) : matchPieces(segment.pieces, text)
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

/** What going over a text once costs. */
const cost = (text: string): number => text.length >> 3

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

const matchHost = ({ labels, marks }: Segment, text: string): boolean => {
  let from = 0
  for (const [i, label] of labels.entries()) {
    let to = from
    while (to < text.length && !isMark(text.charCodeAt(to))) to++
    if ((text[to] ?? "") !== (marks[i] ?? "") || !matchPieces(label, text.slice(from, to))) return false
    from = to + 1
  }
  return true
}

/** `.` and `:` */
const isMark = (code: number): boolean => code === 46 || code === 58

// The form in which patterns are compared.

const canonicalPattern = (kind: TargetKind, source: string): string | undefined => {
  if (isUnclean(source)) return undefined
  // Within a longer segment `**` is `*`.
  const text = source
    .split("/")
    .map((segment) => (segment === "**" ? segment : segment.replace(/\*+/g, "*")))
    .join("/")
  switch (kind) {
    case "name":
      return text
    case "path":
      return pathPattern(text)
    case "url":
      return urlPattern(text)
  }
}

const startsDeep = (text: string): boolean => text === "**" || text.startsWith("**/")

const pathPattern = (text: string): string | undefined => {
  if (text.includes("\\")) return undefined
  if (!startsDeep(text) && !text.startsWith("/")) return undefined
  const segments = resolveDots(text.split("/").filter((segment) => segment !== ""))
  if (segments === undefined) return undefined
  return `${startsDeep(text) ? "" : "/"}${segments.join("/")}`
}

/** `undefined` when `..` comes behind a wildcard, because it is not clear then what it takes away. */
const resolveDots = (segments: ReadonlyArray<string>): ReadonlyArray<string> | undefined => {
  const resolved: Array<string> = []
  for (const segment of segments) {
    if (segment === ".") continue
    if (segment !== "..") resolved.push(segment)
    else if (resolved.pop()?.includes("*")) return undefined
  }
  return resolved
}

const urlPattern = (text: string): string | undefined => {
  if (/[\s\\]/.test(text)) return undefined
  if (startsDeep(text)) return deepUrlPattern("", text.slice(2))
  const match = /^([A-Za-z*][A-Za-z0-9*]*):\/\/([^/?#]+)(.*)$/.exec(text)
  if (match === null) return undefined
  const [, written = "", authority = "", rest = ""] = match
  const scheme = written.toLowerCase()
  if (!scheme.includes("*") && !schemes.has(scheme)) return undefined
  if (authority === "**") return deepUrlPattern(`${scheme}://`, rest)
  const host = hostPattern(scheme, authority)
  const path = urlPathPattern(rest, [])
  return host === undefined || path === undefined ? undefined : `${scheme}://${host}${path}`
}

/** A `**` in place of the host or more, and what is behind it. */
const deepUrlPattern = (before: string, rest: string): string | undefined => {
  const path = rest === "" ? "" : urlPathPattern(rest, ["**"])
  return path === undefined ? undefined : `${before}**${path}`
}

const defaultPorts: Readonly<Record<string, string>> = { http: "80", https: "443", ws: "80", wss: "443" }

const hostPattern = (scheme: string, authority: string): string | undefined => {
  const match = /^(\[[0-9A-Fa-f:.]+\]|[^:[\]@%]+)(?::([0-9*]*))?$/.exec(authority)
  if (match === null) return undefined
  const [, name = "", written = ""] = match
  const host = asciiHost(name)
  if (host === undefined || host.split(".").includes("")) return undefined
  if (written.includes("*")) return `${host}:${written}`
  const port = written === "" ? "" : String(Number(written))
  if (Number(port) > 65535) return undefined
  return port === "" || port === defaultPorts[scheme] ? host : `${host}:${port}`
}

/** As WHATWG writes a host. It takes `*` for any other character, but not in what looks like an IPv4 address. */
const asciiHost = (name: string): string | undefined => {
  // Parts of a label say nothing of what it becomes in Punycode.
  if (name.split(".").some((label) => label.includes("*") && /[^ -~]/.test(label))) return undefined
  const host = parseUrl(`http://${name}/`)?.hostname
  if (host === undefined) return /^(?=.*\*)[0-9A-Za-z.*_-]+$/.test(name) ? name.toLowerCase() : undefined
  // Other characters that it takes for `*` were not meant as wildcards.
  return host.split("*").length === name.split("*").length ? host : undefined
}

/** What is behind the host, where `base` is what `..` meets first. */
const urlPathPattern = (rest: string, base: ReadonlyArray<string>): string | undefined => {
  const [, path = "", query = ""] = /^([^?#]*)([^#]*)/.exec(rest) ?? []
  if (strayPercent.test(path) || strayPercent.test(query)) return undefined
  const written = path
    .split("/")
    .slice(1)
    .map((segment) => (/^(?:\.|%2e){1,2}$/i.test(segment) ? segment.replace(/%2e/gi, ".") : segment))
  const segments = resolveDots([...base, ...written])?.slice(base.length)
  if (segments === undefined) return undefined
  // A dot segment at the end leaves the slash before it.
  const end = /^\.\.?$/.test(written[written.length - 1] ?? "") && segments.length > 0 ? "/" : ""
  const url = parseUrl(`http://host/${segments.join("/")}${end}${query}`)
  return url && decodeUnreserved(url.pathname + url.search)
}
