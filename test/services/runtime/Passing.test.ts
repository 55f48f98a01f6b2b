import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { describe, expect, it } from "@effect/vitest"
import { PassingMap, PassingSet } from "../../../src/services/runtime/Passing.js"

setFlagsFromString("--expose-gc")
const gc = runInNewContext("gc") as (options?: { readonly type: "minor" }) => void

const entries = 6_000
const underWay = 64
/** Bytes of what an entry refers to. */
const entryBytes = 2_000

interface Churned {
  readonly set: (key: number, value: ReadonlyArray<number>) => unknown
  readonly delete: (key: number) => unknown
}

/** Returns the bytes that collections of young objects have left there, and a full one then takes. */
const leftOver = (map: Churned): number => {
  gc()
  for (let i = 0; i < entries; i++) {
    map.set(i, new Array<number>(entryBytes / 8).fill(0.5))
    map.delete(i - underWay)
    if (i % 300 === 0) gc({ type: "minor" })
  }
  gc({ type: "minor" })
  gc({ type: "minor" })
  const before = process.memoryUsage().heapUsed
  gc()
  return before - process.memoryUsage().heapUsed
}

describe("PassingMap", () => {
  it("leaves nothing of what has come and gone to the next full collection", () => {
    const all = entries * entryBytes
    // What this is for: once it is not so any more, a Map will do.
    expect(leftOver(new Map<number, ReadonlyArray<number>>())).toBeGreaterThan(all / 2)
    expect(leftOver(new PassingMap<number, ReadonlyArray<number>>())).toBeLessThan(all / 4)
  })

  it("has what was set and not deleted, in that order", () => {
    const map = new PassingMap<number, string>()
    const plain = new Map<number, string>()
    for (let i = 0; i < 1_000; i++) {
      const key = (i * 7) % 40
      if (i % 3 === 0) expect(map.delete(key)).toBe(plain.delete(key))
      else {
        map.set(key, `${i}`)
        plain.set(key, `${i}`)
      }
      expect(map.size).toBe(plain.size)
      expect(map.get(key)).toBe(plain.get(key))
      expect(map.has(key + 1)).toBe(plain.has(key + 1))
    }
    expect([...map]).toEqual([...plain])
    expect([...map.keys()]).toEqual([...plain.keys()])
    expect([...map.values()]).toEqual([...plain.values()])
    map.clear()
    expect(map.size).toBe(0)
  })
})

describe("PassingSet", () => {
  it("has what was added and not deleted, in that order", () => {
    const set = new PassingSet<number>()
    for (let i = 0; i < 100; i++) set.add(i % 10)
    for (const value of [3, 1, 3]) set.delete(value)
    set.add(1)
    expect([...set]).toEqual([0, 2, 4, 5, 6, 7, 8, 9, 1])
    expect(set.has(3)).toBe(false)
    expect(set.size).toBe(9)
  })

  it("can be deleted from while it is gone through", () => {
    const set = new PassingSet<number>()
    for (let i = 0; i < 100; i++) set.add(i)
    for (const value of set) set.delete(value)
    expect(set.size).toBe(0)
  })
})
