/**
 * Parameters as Postgres reads them. Columns of rows are sent as array literals, and made here: the driver escapes every number
 * as a text, by two passes over it.
 */

/** A value of a row. */
type Value = string | number | boolean | null

const special = /["\\]/g

const element = (value: Value): string =>
  value === null
    ? "NULL"
    : typeof value === "string"
      ? `"${value.replace(special, "\\$&")}"`
      : // Numbers and truth values have nothing that is to be escaped.
        String(value)

/** Returns a column as an array literal. */
export const arrayLiteral = (values: ReadonlyArray<Value>): string => {
  let text = "{"
  for (let i = 0; i < values.length; i++)
    text += (i === 0 ? "" : ",") + element(values[i] as Value)
  return `${text}}`
}
