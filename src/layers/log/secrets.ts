/** Takes the values of credentials out of what agents have said. */

const replaced = "[secret]"

const clean = (value: unknown, secrets: ReadonlyArray<string>): unknown => {
  if (typeof value === "string")
    return secrets.reduce((text, secret) => text.replaceAll(secret, replaced), value)
  if (typeof value !== "object" || value === null) return value
  return Array.isArray(value)
    ? value.map((part) => clean(part, secrets))
    : Object.fromEntries(
        Object.entries(value).map(([key, part]) => [clean(key, secrets), clean(part, secrets)])
      )
}

/** Returns a JSON text with every secret replaced that stands in one of its strings, or in a name. */
export const withoutSecrets = (text: string, secrets: ReadonlyArray<string>): string =>
  secrets.some((secret) => text.includes(JSON.stringify(secret).slice(1, -1)))
    ? JSON.stringify(clean(JSON.parse(text), secrets))
    : text
