/** Looking into what others wrote, which may be anything. */
import { isRecord } from "../../../protocol/Json.js"

export { isRecord }

/** Returns a member of an object, `undefined` when there is none. */
export const field = (value: unknown, name: string): unknown =>
  isRecord(value) && Object.hasOwn(value, name) ? value[name] : undefined

/** Returns a member that is a text. */
export const textIn = (value: unknown, name: string): string | undefined => {
  const found = field(value, name)
  return typeof found === "string" ? found : undefined
}

/** Returns a member that is a number. */
export const numberIn = (value: unknown, name: string): number | undefined => {
  const found = field(value, name)
  return typeof found === "number" ? found : undefined
}

/** Returns how many bytes a value of JSON takes, roughly. */
export const sizeOf = (value: unknown): number => {
  let bytes = 0
  const left = [value]
  while (left.length > 0) {
    const next = left.pop()
    bytes += typeof next === "string" ? next.length : 8
    if (typeof next === "object" && next !== null)
      for (const key in next) {
        bytes += Array.isArray(next) ? 0 : key.length
        left.push(next[key as never])
      }
  }
  return bytes
}
