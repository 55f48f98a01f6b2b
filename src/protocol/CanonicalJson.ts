/**
 * Canonical JSON: object keys sorted by code unit, no white space, numbers as ECMAScript prints
 * them (RFC 8785 for values that came out of `JSON.parse`). Two submits have identical parameters
 * when their canonical texts are equal (§7.2).
 */
export const stringify = (value: unknown): string => {
  if (Array.isArray(value)) return `[${value.map(stringify).join(",")}]`
  if (typeof value === "object" && value !== null) {
    const object = value as Record<string, unknown>
    const members = Object.keys(object)
      .filter((key) => object[key] !== undefined)
      .sort()
      .map((key) => `${JSON.stringify(key)}:${stringify(object[key])}`)
    return `{${members.join(",")}}`
  }
  return JSON.stringify(value ?? null)
}
