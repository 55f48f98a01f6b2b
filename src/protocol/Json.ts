/** JSON as it comes from elsewhere: nothing is known of it before it was looked at. */

/** Returns what a text says; throws a `SyntaxError` of one that is no JSON. */
export const parseJson = (text: string): unknown => JSON.parse(text)

/** Returns what a text says; `undefined` of one that is no JSON. */
export const readJson = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Where a text stops being JSON, as far as its `SyntaxError` says so; nothing of the text itself. */
export const whereNoJson = (error: unknown): string => {
  // Before its end engines may quote the text.
  const at = /at position (\d+)(?: \(line \d+ column \d+\))?$/.exec(String(error))?.[1]
  return at === undefined ? "" : `, from character ${Number(at) + 1} on`
}

/** Returns whether a value is an object that is no array. */
export const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** Returns the members of an object; none of anything else. */
export const membersOf = (value: unknown): Readonly<Record<string, unknown>> => (isRecord(value) ? value : {})
