/** Deciding one request, whatever is in it, is cut into parts of a few milliseconds (§1 of the protocol page). */
import { describe, expect, it } from "@effect/vitest"
import * as Either from "effect/Either"
import * as fc from "effect/FastCheck"
import { stringify, stringifying } from "../../src/protocol/CanonicalJson.js"
import * as Lease from "../../src/protocol/Lease.js"
import { finish, stepsPerPart } from "../../src/protocol/Steps.js"

/** `Lease.comparing`, all at once. */
const subsetProblem = (child: Lease.Lease, parent: Lease.Lease, maxSteps?: number) =>
  finish(Lease.comparing(child, parent, maxSteps))

/** Milliseconds that this thread has worked; before Node 23.9 that go by, in which others may work too. */
const worked = () => {
  const { threadCpuUsage } = process as { readonly threadCpuUsage?: () => { readonly user: number } }
  return threadCpuUsage === undefined ? performance.now() : threadCpuUsage().user / 1_000
}

/**
 * The parts that work is cut into, and the longest of them in milliseconds. The same work has the same parts: each is done
 * three times and the shortest counts, since a compiler or the collection of garbage may take part in any of them.
 */
const measured = <A>(work: () => Iterator<undefined, A, undefined>) => {
  const shortest: Array<number> = []
  let value: A | undefined
  for (let round = 0; round < 3; round++) {
    const steps = work()
    let parts = 0
    for (let done = false; !done; parts++) {
      const started = worked()
      const part = steps.next()
      shortest[parts] = Math.min(shortest[parts] ?? Infinity, worked() - started)
      if (part.done === true) value = part.value
      done = part.done === true
    }
    expect(parts).toBe(shortest.length)
  }
  return { value: value as A, parts: shortest.length, longest: Math.max(...shortest) }
}

/** Milliseconds; a part takes two or three, and a machine may be slow. */
const allowance = 200

const patterns = (count: number, make: (i: number) => string) =>
  Array.from({ length: count }, (_, i) => make(i))
const ways: ReadonlyArray<readonly [string, Lease.Lease, Lease.Lease]> = [
  [
    "many ** on both sides",
    { "fs.read": patterns(990, (i) => `/${"**/a/".repeat(190)}${i}`) },
    { "fs.read": patterns(990, (i) => `/${"**/a/".repeat(180)}*x${i}`) }
  ],
  [
    "many ** against a long literal",
    { "fs.read": patterns(990, (i) => `${"/a".repeat(500)}/${i}`) },
    { "fs.read": patterns(990, (i) => `/**${"/a".repeat(200)}/b${i}/**`) }
  ],
  [
    "many * in one segment",
    { "tool.call": patterns(990, (i) => `${"a*".repeat(500)}${i}`) },
    { "tool.call": patterns(990, (i) => `${"*a".repeat(500)}b${i}`) }
  ],
  [
    "URLs whose host may be anywhere",
    { "net.fetch": patterns(990, (i) => `https://**/${"*.a/".repeat(200)}${i}`) },
    { "net.fetch": patterns(990, (i) => `https://**/${"*.*/".repeat(200)}b${i}`) }
  ],
  [
    "long URLs",
    { "net.fetch": patterns(1000, (i) => `https://a${i}.example/${"ab/".repeat(320)}`) },
    { "net.fetch": ["https://**"] }
  ],
  [
    "nothing under it",
    { "fs.read": patterns(1000, (i) => `/a/${i}/*`) },
    { "fs.read": patterns(1000, (i) => `/b/${i}/**`) }
  ]
]

describe("comparing leases", () => {
  it.each(ways)("is cut into parts: %s", (_, requested, ceiling) => {
    for (const lease of [requested, ceiling]) expect(Lease.invalidLease(lease)).toBeUndefined()
    // Copies: what has been read of a pattern is kept with its list.
    const fresh = () => [structuredClone(requested), structuredClone(ceiling)] as const
    for (const { longest, parts } of [
      measured(() => Lease.narrowing(...fresh())),
      measured(() => Lease.comparing(...fresh()))
    ]) {
      expect(longest).toBeLessThan(allowance)
      expect(parts).toBeLessThan(2 + (2 * Lease.defaultMaxSteps) / stepsPerPart)
    }
  })

  it("grants a thousand honest patterns under a ceiling of thousands", () => {
    const requested = { "fs.read": patterns(1000, (i) => `/data/team-${i % 50}/project-${i}/**/*.json`) }
    const ceiling = { "fs.read": patterns(3000, (i) => `/data/team-${i}/**`) }
    expect(Lease.reduce(requested, ceiling)).toEqual(Either.right(requested))
    expect(subsetProblem(requested, ceiling)).toBeUndefined()
    const wide = { "fs.read": ["**"] }
    expect(Lease.reduce(wide, requested)).toEqual(Either.right(requested))
  })

  it("is the same in parts as at once, and sees a ceiling that was changed", () => {
    const list = ["/a/**"]
    const ceiling = { "fs.read": list }
    expect(Lease.reduce({ "fs.read": ["/b"] }, ceiling)).toEqual(Either.right({ "fs.read": [] }))
    list[0] = "/b"
    expect(Lease.reduce({ "fs.read": ["/b"] }, ceiling)).toEqual(Either.right({ "fs.read": ["/b"] }))
    // The same list as patterns of another kind.
    const shared = ["b"]
    expect(Lease.reduce({ "fs.read": ["b"] }, { "fs.read": shared })).toEqual(Either.right({ "fs.read": [] }))
    expect(Lease.reduce({ "tool.call": ["b"] }, { "tool.call": shared })).toEqual(
      Either.right({ "tool.call": ["b"] })
    )
  })

  it.each([1, 100, 5_000])("never grants what it had no steps to prove: %i", (steps) => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom("/a", "/a/*", "/**/a", "/a/**/b", "/*a*b*/**", "**"), { maxLength: 6 }),
        fc.array(fc.constantFrom("/a", "/a/b", "/**/b", "/a/**", "/*/b/**/*"), { maxLength: 6 }),
        (requested, ceiling) => {
          const bounded = Lease.reduce({ "fs.read": requested }, { "fs.read": ceiling }, steps)
          if (Either.isRight(bounded))
            expect(bounded).toEqual(Lease.reduce({ "fs.read": requested }, { "fs.read": ceiling }))
          const problem = subsetProblem({ "fs.read": requested }, { "fs.read": ceiling }, steps)
          if (problem === undefined)
            expect(subsetProblem({ "fs.read": requested }, { "fs.read": ceiling })).toBeUndefined()
        }
      )
    )
  })
})

describe("the size of a lease", () => {
  const limits = { maxLeasePatterns: 3, maxLeaseBytes: 30 }
  it("is counted over all capabilities, in UTF-8 bytes with their names", () => {
    expect(Lease.excess({ "fs.read": ["/a", "/b"], "fs.write": ["/c"] }, limits)).toBeUndefined()
    expect(Lease.excess({ "fs.read": ["/a", "/b"], "fs.write": ["/c", "/d"] }, limits)).toMatch(
      /4 patterns, of at most 3 \(maxLeasePatterns\)/
    )
    expect(Lease.excess({ "fs.read": ["x".repeat(23)] }, limits)).toBeUndefined()
    expect(Lease.excess({ "fs.read": ["x".repeat(24)] }, limits)).toMatch(
      /31 bytes, of at most 30 \(maxLeaseBytes\)/
    )
    expect(Lease.excess({ "fs.read": ["\u00e9".repeat(12)] }, limits)).toMatch(/31 bytes/)
    expect(Lease.excess({ "fs.read": ["\u20ac".repeat(8)] }, limits)).toMatch(/31 bytes/)
    expect(Lease.excess({ "fs.read": ["\u{1f600}".repeat(6)] }, limits)).toMatch(/31 bytes/)
  })

  it("is at most a hundred capabilities", () => {
    const lease = (count: number) =>
      Object.fromEntries(Array.from({ length: count }, (_, i) => [`x-vendor.a.b${i}`, ["x"]]))
    expect(Lease.invalidLease(lease(100))).toBeUndefined()
    expect(Lease.invalidLease(lease(101))).toMatch(/at most 100 capabilities/)
  })
})

describe("canonical JSON", () => {
  const wide = Object.fromEntries(Array.from({ length: 80_000 }, (_, i) => [`k${(i * 7919) % 80_000}`, i]))
  it.each<[string, unknown]>([
    ["one object of many members", wide],
    ["one array of many numbers", Array.from({ length: 300_000 }, (_, i) => i % 10)],
    ["many empty objects", Array.from({ length: 200_000 }, () => ({}))]
  ])("is written in parts: %s", (_, value) => {
    const { longest, parts, value: text } = measured(() => stringifying(value))
    expect(parts).toBeGreaterThan(10)
    expect(longest).toBeLessThan(allowance)
    expect(JSON.parse(text)).toEqual(value)
  })

  it("sorts many names as few", () => {
    expect(finish(stringifying(wide))).toBe(
      `{${Object.keys(wide)
        .sort()
        .map((key) => `"${key}":${wide[key]}`)
        .join(",")}}`
    )
    expect(stringify({ b: { d: 1, c: [] }, a: [{}, null] })).toBe('{"a":[{},null],"b":{"c":[],"d":1}}')
  })
})
