/** Tables for people. */
import { inLine } from "./text.js"

const cut = (text: string, width: number) =>
  text.length <= width ? text : `${text.slice(0, Math.max(0, width - 1))}…`

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
  const widths = Array.from({ length: count }, (_, i) => Math.max(...cells.map((row) => row[i]?.length ?? 0)))
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
        return i > 0 && isNumber[i] ? text.padStart(width) : text.padEnd(width)
      })
      .join("  ")
      .trimEnd()
  )
}

/** Columns of what a person reads on stdout; whoever else reads it gets lines as they are. */
export const stdoutColumns = (): number =>
  process.stdout.isTTY === true ? (process.stdout.columns ?? 80) : Number.POSITIVE_INFINITY
