/** A survey as Markdown. */
import type { Survey } from "./survey.js"

const count = (n: number): string => n.toString().replace(/\B(?=(\d{3})+$)/g, ",")

const bytes = (n: number): string => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"]
  let unit = 0
  while (n >= 1024 && unit < units.length - 1) {
    n /= 1024
    unit++
  }
  return `${unit === 0 ? n : n.toFixed(1)} ${units[unit]}`
}

/** Any text as inline Markdown that stays in its table cell. */
const text = (value: string): string =>
  value
    .replace(/[\u0000-\u001f\u007f]+/g, " ")
    .replace(/[\\`*_{}[\]<>|#~&]/g, (c) =>
      c === "<" ? "&lt;" : c === ">" ? "&gt;" : c === "&" ? "&amp;" : `\\${c}`
    )

const row = (cells: ReadonlyArray<string>): string => `| ${cells.join(" | ")} |`

const table = function* (
  head: ReadonlyArray<string>,
  /** Columns from this one on are numbers. */
  numbers: number,
  rows: Iterable<ReadonlyArray<string>>
): Generator<string> {
  yield row(head)
  yield row(head.map((_, i) => (i < numbers ? "---" : "---:")))
  for (const cells of rows) yield row(cells)
}

/** The lines of the report. */
export const report = function* (survey: Omit<Survey, "startedAt">): Generator<string> {
  yield `# Survey of ${text(survey.root)}`
  yield ""
  yield `${count(survey.files)} files, ${count(survey.lines)} lines, ${bytes(survey.bytes)}` +
    (survey.binaryFiles > 0 ? `; ${count(survey.binaryFiles)} of the files are binary.` : ".")
  if (survey.truncated) {
    yield ""
    yield "The limit on the number of files was reached: this is a part of the tree."
  }
  if (survey.unreadable > 0) {
    yield ""
    yield `${count(survey.unreadable)} files or directories could not be read.`
  }
  yield ""
  yield "## Languages"
  yield ""
  yield* table(
    ["Language", "Files", "Lines", "Bytes"],
    1,
    survey.languages.map((total) => [
      total.language,
      count(total.files),
      count(total.lines),
      count(total.bytes)
    ])
  )
  yield ""
  yield "## Largest files"
  yield ""
  yield* table(
    ["File", "Size"],
    1,
    survey.largest.map((file) => [text(file.path), bytes(file.size)])
  )
  yield ""
  yield "## TODO and FIXME"
  yield ""
  const marks = survey.todo + survey.fixme
  if (marks === 0) {
    yield "None."
    return
  }
  yield `${count(survey.todo)} TODO, ${count(survey.fixme)} FIXME` +
    (marks > survey.marks.length ? `; the first ${count(survey.marks.length)}:` : ":")
  yield ""
  yield* table(
    ["Where", "Mark", "Text"],
    3,
    survey.marks.map((mark) => [text(`${mark.path}:${mark.line}`), mark.kind, text(mark.text)])
  )
}

/** Lines joined into pieces of about `size` characters, so that a report can be streamed. */
export const pieces = function* (lines: Iterable<string>, size: number): Generator<string> {
  let piece = ""
  for (const line of lines) {
    piece += `${line}\n`
    if (piece.length >= size) {
      yield piece
      piece = ""
    }
  }
  if (piece !== "") yield piece
}
