/** Numbers and sizes, as people read them. */

/** A number of things: `1 job`, `12 jobs`. */
export const count = (n: number, one: string): string => `${n} ${one}${n === 1 ? "" : "s"}`

const units = ["B", "kB", "MB", "GB", "TB"] as const

/** A size in bytes with one unit: `512 B`, `1.2 MB`. */
export const bytes = (n: number): string => {
  let value = n
  let unit = 0
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000
    unit++
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`
}
