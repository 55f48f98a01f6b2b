/**
 * Columns of rows as Postgres reads them: as array literals, made here, since the driver puts every number between quotes and
 * goes over every text twice.
 */

/** A value of a column. */
export type Cell = string | number | boolean | null

const special = /["\\]/g

const quoted = (text: string): string =>
  `"${text.includes("\\") ? text.replace(special, "\\$&") : text.replaceAll('"', '\\"')}"`

const literalOf = (cell: Cell): string =>
  cell === null ? "NULL" : typeof cell === "string" ? quoted(cell) : String(cell)

/** Returns a column as an array literal. Of what is said again after itself the literal is made once. */
export const arrayLiteral = (column: ReadonlyArray<Cell>): string => {
  let text = "{"
  let last: Cell | undefined
  let literal = ""
  for (const cell of column) {
    if (cell !== last) {
      last = cell
      literal = literalOf(cell)
    }
    text += text.length === 1 ? literal : `,${literal}`
  }
  return `${text}}`
}
