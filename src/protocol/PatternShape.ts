/** What a canonical pattern is made of: segments, and in each the literal pieces between its wildcards. */
import type { TargetKind } from "./Target.js"

/** Literal text between the `*` of a segment: one piece is a literal segment. */
export type Pieces = ReadonlyArray<string>

export interface Segment {
  readonly text: string
  /** Without a wildcard. */
  readonly literal: boolean
  /** `**` */
  readonly deep: boolean
  readonly pieces: Pieces
  /** Made when it first meets the host. */
  labels: Labels | undefined
}

/** What is between the marks of a host, `.` and `:`. */
export interface Labels {
  readonly labels: ReadonlyArray<Pieces>
  readonly marks: string
}

export const labelsOf = (segment: Segment): Labels => {
  segment.labels ??= {
    labels: segment.text.split(/[.:]/).map((label) => label.split("*")),
    marks: segment.text.replace(/[^.:]+/g, "")
  }
  return segment.labels
}

export interface Shape {
  readonly kind: TargetKind
  readonly text: string
  /** Of a URL up to the `?`. */
  readonly segments: ReadonlyArray<Segment>
  /** Index of the first `**` among them, or -1. */
  readonly floating: number
  /** Of a URL after the first `?`. */
  readonly query: ReadonlyArray<Segment> | undefined
  /** Ends with a wildcard, which takes a query too. */
  readonly open: boolean
}

export const shapeOf = (kind: TargetKind, text: string): Shape => {
  const at = queryStart(kind, text)
  const split = (part: string) => segmentsOf(kind, part).map(segmentOf)
  const segments = split(at < 0 ? text : text.slice(0, at))
  return {
    kind,
    text,
    segments,
    floating: segments.findIndex((segment) => segment.deep),
    query: at < 0 ? undefined : split(text.slice(at + 1)),
    open: text.endsWith("*")
  }
}

/** The segments without a wildcard with which every target of the canonical pattern begins. */
export const prefixOf = (kind: TargetKind, text: string): string => {
  const at = queryStart(kind, text)
  const part = at < 0 ? text : text.slice(0, at)
  const wild = part.indexOf("*")
  if (wild < 0) return segmentsOf(kind, part).join("/")
  return part.slice(0, Math.max(0, part.lastIndexOf("/", wild)))
}

export const queryStart = (kind: TargetKind, text: string): number =>
  kind === "url" ? text.indexOf("?") : -1

/** The root has no segments but the one that every path begins with, so that `/*` is what is in it, not itself. */
export const segmentsOf = (kind: TargetKind, text: string): ReadonlyArray<string> =>
  kind === "path" && text === "/" ? [""] : text.split("/")

const nothing: Pieces = []

const segmentOf = (text: string): Segment => {
  const literal = !text.includes("*")
  return {
    text,
    literal,
    deep: text === "**",
    pieces: literal ? nothing : text.split("*"),
    labels: undefined
  }
}

/** Index of the host among the segments of a URL: `https:`, ``, host. */
export const hostIndex = 2
