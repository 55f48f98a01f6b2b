/**
 * Text as wide as a terminal shows it: two columns for what is wide (CJK, emoji), none for what is put onto the character
 * before it. What is cut is cut between characters as people count them, and says so.
 */
import { inLine, plain } from "./text.js"

const ascii = /^[\x20-\x7e]*$/

/** East Asian wide and full-width forms (UAX #11), as far as scripts and blocks tell; emoji are told by their property. */
const wide =
  /[\u1100-\u115f\u2329\u232a\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe10-\ufe19\ufe30-\ufe6f\uff01-\uff60\uffe0-\uffe6\u{16fe0}-\u{18cff}\u{1aff0}-\u{1b2ff}\u{20000}-\u{3fffd}]|\p{Emoji_Presentation}|\p{Emoji}\ufe0f/u
const unseen = /^(?:\p{Mn}|\p{Me}|\p{Cf}|\ufe0f)+$/u

let segmenter: Intl.Segmenter | undefined

/** Returns the characters of a text, as people count them. */
const characters = (text: string): ReadonlyArray<string> => {
  // Made when it is needed: it loads data for as long as a seventh of what Node itself needs to start.
  segmenter ??= new Intl.Segmenter("en", { granularity: "grapheme" })
  return Array.from(segmenter.segment(text), ({ segment }) => segment)
}

const widthOfOne = (character: string): number => (unseen.test(character) ? 0 : wide.test(character) ? 2 : 1)

/** Returns how many columns a line takes; colours take none. */
export const widthOf = (line: string): number => {
  const text = plain(line)
  return ascii.test(text) ? text.length : characters(text).reduce((sum, each) => sum + widthOfOne(each), 0)
}

/** Returns the first characters of a text that fit into so many columns. */
const head = (text: string, columns: number): string => {
  let taken = ""
  let left = columns
  for (const character of characters(text)) {
    left -= widthOfOne(character)
    if (left < 0) break
    taken += character
  }
  return taken
}

/** Returns a line that takes at most so many columns, with a mark where it was cut. */
export const cut = (line: string, columns: number): string =>
  widthOf(line) <= columns ? line : columns < 1 ? "" : `${head(line, columns - 1)}…`

/** Returns a line that takes at least so many columns. */
export const padded = (line: string, columns: number): string =>
  `${line}${" ".repeat(Math.max(0, columns - widthOf(line)))}`

/** Returns how many columns the widest cell of a column takes, of however many rows. */
export const widest = (rows: ReadonlyArray<ReadonlyArray<string>>, column: number): number =>
  rows.reduce((most, row) => Math.max(most, widthOf(row[column] ?? "")), 0)

/** Columns of a stream that a person reads; whoever else reads it gets lines as they are. */
export const columnsOf = (stream: { readonly isTTY?: boolean; readonly columns?: number }): number =>
  // A terminal that does not know how wide it is says 0.
  stream.isTTY === true ? stream.columns || 80 : Number.POSITIVE_INFINITY

/** Columns of what a person reads on stdout. */
export const stdoutColumns = (): number => columnsOf(process.stdout)

/** Columns that a cell takes at most, also where nothing says how wide a line may be; and how much of its text is looked at. */
const longestCell = 256
const longestText = 4_096

/** Returns what a cell shows of a text: names that others have made may have a million characters. */
const cellOf = (text: string): string =>
  cut(inLine(text.length > longestText ? `${text.slice(0, longestText)}…` : text), longestCell)

/**
 * Returns the lines of a table, its first row the headings: columns two spaces apart, numbers to the right, and no line
 * wider than `columns`. What is too wide is cut at the first column, which is a name.
 */
export const aligned = (
  rows: ReadonlyArray<ReadonlyArray<string>>,
  columns: number = Number.POSITIVE_INFINITY
): ReadonlyArray<string> => {
  const cells = rows.map((row) => row.map(cellOf))
  const count = cells[0]?.length ?? 0
  const widths = Array.from({ length: count }, (_, i) => widest(cells, i))
  const rest = widths.slice(1).reduce((sum, width) => sum + width + 2, 0)
  widths[0] = Math.max(8, Math.min(widths[0] ?? 0, columns - rest))
  const isNumber = Array.from({ length: count }, (_, i) =>
    cells.slice(1).every((row) => /^[\d.]*( ?[a-zA-Z]{1,2})?$/.test(row[i] ?? ""))
  )
  const line = (row: ReadonlyArray<string>) =>
    row
      .map((cell, i) => {
        const width = widths[i] ?? 0
        const text = cut(cell, width)
        return i > 0 && isNumber[i] ? text.padStart(width) : padded(text, width)
      })
      .join("  ")
      .trimEnd()
  return cells.map((row) => cut(line(row), columns))
}

/** Words on lines of at most `width`, each of them after `indent` spaces; the first is where the text begins. */
export const wrapped = (text: string, width: number, indent: number): string => {
  const lines: Array<string> = []
  let line = ""
  for (const word of text.split(" ")) {
    if (line !== "" && widthOf(line) + 1 + widthOf(word) > width) {
      lines.push(line)
      line = word
    } else line = line === "" ? word : `${line} ${word}`
  }
  return [...lines, line].join(`\n${" ".repeat(indent)}`)
}

/** Returns a text whose lines are no wider than that; what is continued begins two columns further in. */
export const fitted = (text: string, columns: number): string =>
  text
    .split("\n")
    .map((line) => {
      if (widthOf(line) <= columns) return line
      const indent = line.length - line.trimStart().length
      const rest = indent + 2
      return `${line.slice(0, indent)}${wrapped(line.slice(indent), Math.max(20, columns - rest), rest)}`
    })
    .join("\n")
