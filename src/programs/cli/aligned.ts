/** Tables for people. */
import { columnsOf, cut, padded, widthOf } from "./columns.js"
import { inLine } from "./text.js"

/**
 * Returns the lines of a table, its first row the headings: columns two spaces apart, numbers to the right, and no line
 * wider than `columns`. What is too wide is cut at the first column, which is a name.
 */
export const aligned = (
  rows: ReadonlyArray<ReadonlyArray<string>>,
  columns: number = Number.POSITIVE_INFINITY
): ReadonlyArray<string> => {
  const cells = rows.map((row) => row.map(inLine))
  const count = cells[0]?.length ?? 0
  const widths = Array.from({ length: count }, (_, i) =>
    Math.max(...cells.map((row) => widthOf(row[i] ?? "")))
  )
  const rest = widths.slice(1).reduce((sum, width) => sum + width + 2, 0)
  widths[0] = Math.max(8, Math.min(widths[0] ?? 0, columns - rest))
  const isNumber = Array.from({ length: count }, (_, i) =>
    cells.slice(1).every((row) => /^[\d.]*( ?[a-zA-Z]{1,2})?$/.test(row[i] ?? ""))
  )
  return cells.map((row) =>
    row
      .map((cell, i) => {
        const width = widths[i] ?? 0
        const text = cut(cell, width)
        return i > 0 && isNumber[i] ? text.padStart(width) : padded(text, width)
      })
      .join("  ")
      .trimEnd()
  )
}

/** Columns of what a person reads on stdout; whoever else reads it gets lines as they are. */
export const stdoutColumns = (): number => columnsOf(process.stdout)
