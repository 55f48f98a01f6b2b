import { describe, expect, it } from "@effect/vitest"
import * as Either from "effect/Either"
import * as FastCheck from "effect/FastCheck"
import * as Schema from "effect/Schema"
import * as Budget from "../../src/protocol/Budget.js"
import * as Lease from "../../src/protocol/Lease.js"
import { finish } from "../../src/protocol/Steps.js"
import { attacks } from "./attacks.js"

/** `Lease.comparing`, all at once. */
const subsetProblem = (child: Lease.Lease, parent: Lease.Lease, maxSteps?: number) =>
  finish(Lease.comparing(child, parent, maxSteps))

describe("a lease", () => {
  it("maps reserved and vendor capabilities to patterns", () => {
    for (const lease of [
      {},
      { "fs.read": ["/src/**"], "fs.write": [], "net.fetch": ["https://*/**"] },
      { "tool.call": ["search.*"], "agent.delegate": ["*"], "model.use": ["a/*"] },
      { "x-vendor.acme.print": ["*"], "x-vendor.a-b_c.d.e": ["x"] },
      { "cost.budget": ["USD:5.00", "credits:1000", "USD:0.000000000000000001"] },
      { "fs.read": ["x".repeat(1024)] },
      { "fs.read": Array(1000).fill("x") },
      { "fs.read": Array(1000).fill("x".repeat(1024)) },
      { "fs.read": Array.from({ length: 1000 }, (_, i) => String(i).padEnd(1024, "x")) },
      { "fs.read": ["/\u{1f600}/caf\u00e9"] },
      { "cost.budget": ["USD:999999999999999999", "EUR:1"] }
    ]) {
      expect(Lease.invalidLease(lease)).toBeUndefined()
      expect(Schema.is(Lease.Lease)(lease)).toBe(true)
    }
  })

  it("is nothing else", () => {
    const secret = "s3cret"
    for (const value of [
      null,
      [],
      secret,
      { [secret]: ["*"] },
      { "fs.execute": ["*"] },
      { "x-vendor.acme": ["*"] },
      { "fs.read": secret },
      { "fs.read": [""] },
      { "fs.read": [1] },
      { "fs.read": ["x".repeat(1025)] },
      { "fs.read": Array(1001).fill("x") },
      { "fs.read": ["/a\0"] },
      { "tool.call": ["a\nb"] },
      { "net.fetch": ["https://a/\ud800"] },
      { "cost.budget": ["USD:999999999999999999", "USD:1"] },
      JSON.parse('{"__proto__":["*"]}'),
      { constructor: ["*"] },
      ...["5.00", "USD", "USD:", "USD:-1", "USD:1e3", "USD:.5", "USD:5.", "USD: 5", ":5", `${secret}!:1`].map(
        (entry) => ({ "cost.budget": [entry] })
      )
    ]) {
      const problem = Lease.invalidLease(value)
      expect(problem).toBeDefined()
      expect(problem).not.toContain(secret)
      expect(Schema.is(Lease.Lease)(value)).toBe(false)
    }
  })

  it("says of an amount with too many digits how many it may have", () => {
    for (const amount of ["9".repeat(30), `0.${"0".repeat(40)}1`, `1.${"1".repeat(19)}`])
      expect(Lease.invalidLease({ "cost.budget": [`USD:${amount}`] })).toMatch(/at most 18 digits/)
  })
})

it("a timestamp is RFC 3339 in UTC with a Z, and a real date", () => {
  for (const text of ["2026-01-02T03:04:05Z", "2026-12-31T23:59:59.123456789Z", "2024-02-29T00:00:00Z"])
    expect(Lease.isUtcTimestamp(text)).toBe(true)
  for (const text of [
    "",
    "2026-01-02",
    "2026-01-02T03:04:05",
    "2026-01-02T03:04:05+00:00",
    "2026-01-02T03:04:05z",
    "2026-01-02 03:04:05Z",
    "2026-13-01T00:00:00Z",
    "2026-02-30T00:00:00Z",
    "2025-02-29T00:00:00Z",
    "2026-01-01T24:00:00Z",
    "2026-01-01T00:60:00Z",
    "2026-01-02T03:04:05.Z",
    "12026-01-02T03:04:05Z",
    "2026-01-02T03:04:05Z\n"
  ])
    expect(Lease.isUtcTimestamp(text)).toBe(false)
})

describe("a compiled lease", () => {
  it.each(attacks.map((attack) => [attack.capability, attack.name, attack] as const))(
    "%s: %s",
    (_, __, { capability, patterns, target, verdict }) => {
      expect(Lease.invalidLease({ [capability]: patterns })).toBeUndefined()
      const { permits } = Lease.compile({ [capability]: patterns })
      const decision = permits(capability, target)
      expect(Either.isRight(decision) ? "allowed" : "denied").toBe(verdict)
      // What it gives is what it asks for.
      if (Either.isRight(decision)) expect(permits(capability, decision.right)).toEqual(decision)
    }
  )

  it("gives the canonical target", () => {
    const { permits } = Lease.compile({ "fs.read": ["/src/**"], "net.fetch": ["https://a.com/**"] })
    expect(permits("fs.read", "/src/./a//b/")).toEqual(Either.right("/src/a/b"))
    expect(permits("net.fetch", "HTTPS://A.com:443/%7e#x")).toEqual(Either.right("https://a.com/~"))
  })

  it("says what to do, and never what was asked for", () => {
    const { permits } = Lease.compile({ "fs.read": ["src/**"], "fs.write": ["/a"], "net.fetch": [] })
    const left = (capability: string, target: string) =>
      Either.getOrThrow(Either.flip(permits(capability, target)))
    expect(left("tool.call", "x")).toMatch(/^the lease has no tool\.call; request it/)
    expect(left("net.fetch", "https://a")).toMatch(/^the lease has no net\.fetch; request it/)
    expect(left("fs.read", "/src/a")).toMatch(/"src\/\*\*" can match nothing: path patterns start with \//)
    expect(left("fs.write", "/b")).toBe(
      "no fs.write pattern of the lease covers this path; request one that does"
    )
    for (const { capability, patterns, target, verdict } of attacks) {
      if (verdict === "allowed" || target.length < 12) continue
      const why = Either.getOrThrow(
        Either.flip(Lease.compile({ [capability]: patterns }).permits(capability, target))
      )
      expect(why).not.toContain(target)
      expect(why.length).toBeLessThan(400)
    }
  })

  it("decides the same again, and after it has forgotten", () => {
    const { permits } = Lease.compile({ "fs.read": ["/*/a"], "fs.write": ["/*/b"] })
    for (let round = 0; round < 2; round++)
      for (let i = 0; i < 1100; i++) {
        expect(Either.isRight(permits("fs.read", `/${i}/a`))).toBe(true)
        expect(Either.isRight(permits("fs.write", `/${i}/a`))).toBe(false)
      }
  })

  it("gives up on patterns that are made to be slow", () => {
    // Each takes some 75 000 steps: the last one is not reached.
    const slow = Array.from({ length: 100 }, (_, i) => `/**${"/a".repeat(50)}/b${i}/**`)
    const target = "/a".repeat(1500)
    const why = (patterns: ReadonlyArray<string>) =>
      Either.getOrThrow(Either.flip(Lease.compile({ "fs.read": patterns }).permits("fs.read", target)))
    expect(why(slow.slice(0, 2))).not.toMatch(/too long/)
    expect(why(slow)).toMatch(/no fs\.read pattern .* take too long/)
    expect(why([...slow, "/a/**/*"])).toMatch(/too long/)
    const honest = Array.from({ length: 999 }, (_, i) => `/**/src-${i}/*/*.ts`)
    const lease = Lease.compile({ "fs.read": [...honest, "/**/*.js"] })
    expect(Either.isRight(lease.permits("fs.read", `${"/some-directory".repeat(100)}/a.js`))).toBe(true)
  })

  it("knows which hosts are named", () => {
    const { namesHost } = Lease.compile({
      "net.fetch": [
        "http://127.0.0.1:*/**",
        "http://*.example.com/**",
        "http://10.*.0.1/",
        "http://**/named",
        "*://[::1]/a"
      ]
    })
    expect(namesHost("http://127.1:80/a")).toBe(false)
    expect(namesHost("http://127.1:8080/a")).toBe(true)
    expect(namesHost("https://[0:0::1]/a")).toBe(true)
    expect(namesHost("https://[0:0::1]/b")).toBe(false)
    expect(namesHost("http://a.example.com/b")).toBe(false)
    expect(namesHost("http://10.0.0.1/")).toBe(false)
    expect(namesHost("http://127.0.0.1/named")).toBe(false)
    expect(namesHost("nonsense")).toBe(false)
    expect(Lease.compile({}).namesHost("http://127.0.0.1/")).toBe(false)
  })

  it("has what it names", () => {
    const { has } = Lease.compile({ "fs.read": [], "cost.budget": ["USD:1"] })
    expect(has("fs.read")).toBe(true)
    for (const other of ["fs.write", "cost.budget", "constructor", "__proto__"])
      expect(has(other)).toBe(false)
  })
})

const granted = (requested: Lease.Lease, ceiling: Lease.Lease | undefined): Lease.Lease =>
  Either.getOrThrow(Lease.reduce(requested, ceiling))

const patterns = FastCheck.array(
  FastCheck.constantFrom(
    "/a",
    "/b",
    "/a/b",
    "/a/*",
    "/a/**",
    "/*",
    "/**",
    "**",
    "/a*",
    "/a/../b",
    "a",
    "/**/b"
  ),
  { maxLength: 4 }
)
const leases: FastCheck.Arbitrary<Lease.Lease> = FastCheck.dictionary(
  FastCheck.constantFrom("fs.read", "fs.write", "tool.call", "x-vendor.a.b"),
  patterns
)
const targets = ["/", "/a", "/b", "/c", "/a/b", "/a/c", "/a/b/c", "/ab", "/x/y/b", "a"]

/** Everything of these targets that a lease permits. */
const permitted = (lease: Lease.Lease): ReadonlyArray<string> => {
  const { permits } = Lease.compile(lease)
  return ["fs.read", "fs.write", "tool.call", "x-vendor.a.b"].flatMap((capability) =>
    targets.flatMap((target) =>
      Either.isRight(permits(capability, target)) ? [`${capability} ${target}`] : []
    )
  )
}

describe("a delegated lease", () => {
  it("is a subset only if it permits nothing more", () => {
    let subsets = 0
    FastCheck.assert(
      FastCheck.property(leases, leases, (child, parent) => {
        if (subsetProblem(child, parent) !== undefined) return
        subsets++
        expect(permitted(parent)).toEqual(expect.arrayContaining([...permitted(child)]))
      }),
      { numRuns: 1000 }
    )
    expect(subsets).toBeGreaterThan(50)
  })

  it("is a subset of itself, unless it has a pattern that can match nothing", () => {
    const lease = {
      "fs.read": ["/a/**", "**/b"],
      "net.fetch": ["https://*.a.com/*?b=*"],
      "tool.call": ["x*"]
    }
    expect(subsetProblem(lease, lease)).toBeUndefined()
    expect(subsetProblem({}, lease)).toBeUndefined()
    expect(subsetProblem({ "fs.write": [] }, lease)).toBeUndefined()
    expect(subsetProblem({ "fs.read": ["a"] }, { "fs.read": ["a", "**"] })).toBeDefined()
  })

  it("is refused with the capability and the pattern", () => {
    expect(subsetProblem({ "fs.read": ["/a/b", "/b"] }, { "fs.read": ["/a/**"] })).toMatch(
      /^fs\.read "\/b" is not covered/
    )
    expect(subsetProblem({ "fs.write": ["/a"] }, { "fs.read": ["/a"] })).toMatch(/^fs\.write "\/a"/)
    // Each pattern by one pattern, not by several together.
    expect(subsetProblem({ "tool.call": ["*"] }, { "tool.call": ["a*", "*"] })).toBeUndefined()
    expect(subsetProblem({ "fs.read": ["/**"] }, { "fs.read": ["/", "/*/**"] })).toBeDefined()
    const proto = JSON.parse('{"__proto__":["*"],"constructor":["*"]}')
    expect(subsetProblem(proto, {})).toMatch(/^__proto__/)
    expect(subsetProblem({ constructor: ["*"] }, {})).toMatch(/^constructor/)
    expect(subsetProblem({ "tool.call": ["x".repeat(1024)] }, {})?.length).toBeLessThan(300)
  })

  it("is refused when it takes too long to compare", () => {
    const slow = Array.from({ length: 150 }, (_, i) => `/**${"/a".repeat(100)}/b${i}/**`)
    const child = Array.from({ length: 300 }, (_, i) => `${"/a".repeat(400)}/${i}`)
    const parent = { "fs.read": [...slow, "/**"] }
    expect(subsetProblem({ "fs.read": child }, parent)).toMatch(/is not covered .* take too long/)
    const fewer = { "fs.read": [...slow.slice(0, 20), "/**"] }
    expect(subsetProblem({ "fs.read": child.slice(0, 2) }, fewer)).toBeUndefined()
    // What is granted is not cut without a word.
    expect(Lease.reduce({ "fs.read": child }, parent)).toEqual(
      Either.left(expect.stringMatching(/^fs\.read takes too long to compare .*steps/))
    )
    const honest = { "fs.read": Array.from({ length: 1000 }, (_, i) => `/some/directory/${i}/*.ts`) }
    expect(subsetProblem(honest, honest)).toBeUndefined()
  })

  it.each([
    [[], [], true],
    [["USD:5"], [], true],
    [[], ["USD:5"], true],
    [["USD:5.00"], ["USD:5"], true],
    [["USD:5.000000000000000001"], ["USD:5"], false],
    [["USD:3", "USD:3"], ["USD:5"], false],
    [["EUR:1"], ["USD:5"], false],
    [["USD:1", "EUR:1"], ["USD:5"], false],
    [["USD:0"], ["USD:0"], true],
    [["USD:0"], ["USD:-1"], false]
  ])("a budget of %j beside %j left: %s", (child, remaining, fine) => {
    const problem = Lease.budgetProblem(Budget.parse(child), Budget.parse(remaining))
    expect(problem === undefined).toBe(fine)
    if (problem !== undefined) expect(problem).toMatch(/^cost\.budget: .*(USD|EUR).*; ask for/)
  })
})

describe("the ceiling", () => {
  it("never grants what was not asked for, nor what is not under it", () => {
    let count = 0
    FastCheck.assert(
      FastCheck.property(leases, leases, (requested, ceiling) => {
        const lease = granted(requested, ceiling)
        expect(Object.keys(lease).sort()).toEqual(Object.keys(requested).sort())
        const both = permitted(lease)
        count += both.length
        expect(permitted(requested)).toEqual(expect.arrayContaining([...both]))
        expect(permitted(ceiling)).toEqual(expect.arrayContaining([...both]))
        expect(subsetProblem(lease, ceiling)).toBeUndefined()
        expect(granted(lease, ceiling)).toEqual(lease)
      }),
      { numRuns: 500 }
    )
    expect(count).toBeGreaterThan(300)
  })

  it.each<[string, Lease.Lease, Lease.Lease | undefined, Lease.Lease]>([
    ["none", { "fs.read": ["a", "/"] }, undefined, { "fs.read": ["a", "/"] }],
    ["covers", { "fs.read": ["/src/a"] }, { "fs.read": ["/src/**"] }, { "fs.read": ["/src/a"] }],
    ["is covered", { "fs.read": ["**"] }, { "fs.read": ["/a", "/b/*"] }, { "fs.read": ["/a", "/b/*"] }],
    ["once", { "fs.read": ["**", "/**", "/a"] }, { "fs.read": ["/a"] }, { "fs.read": ["/a"] }],
    ["neither", { "fs.read": ["/a*"] }, { "fs.read": ["/*a"] }, { "fs.read": [] }],
    [
      "lacks",
      { "fs.read": ["/a"], "tool.call": ["x"] },
      { "fs.read": ["/a"] },
      { "fs.read": ["/a"], "tool.call": [] }
    ],
    ["has more", { "fs.read": ["/a"] }, { "fs.read": ["/a"], "net.fetch": ["**"] }, { "fs.read": ["/a"] }],
    ["is empty", { "fs.read": ["/a"] }, {}, { "fs.read": [] }],
    [
      "URLs",
      { "net.fetch": ["https://A.com:443/x"] },
      { "net.fetch": ["https://*.com/*"] },
      { "net.fetch": ["https://A.com:443/x"] }
    ],
    [
      "budget",
      { "cost.budget": ["USD:5.00", "EUR:1"] },
      { "cost.budget": ["USD:2.50", "GBP:3"] },
      { "cost.budget": ["USD:2.5", "EUR:1", "GBP:3"] }
    ],
    // As it was asked for, if that is less than the ceiling.
    [
      "budget, smaller",
      { "cost.budget": ["USD:1.00", "USD:1"] },
      { "cost.budget": ["USD:5"] },
      { "cost.budget": ["USD:1.00", "USD:1"] }
    ],
    [
      "budget, larger together",
      { "cost.budget": ["USD:3", "USD:3"] },
      { "cost.budget": ["USD:5.0"] },
      { "cost.budget": ["USD:5"] }
    ],
    ["budget, not asked for", {}, { "cost.budget": ["USD:5"] }, { "cost.budget": ["USD:5"] }],
    ["budget, not in it", { "cost.budget": ["USD:5"] }, { "fs.read": ["**"] }, { "cost.budget": ["USD:5"] }]
  ])("%s", (_, requested, ceiling, reduced) => {
    expect(granted(requested, ceiling)).toEqual(reduced)
  })

  it("takes __proto__ for data", () => {
    const reduced = granted(JSON.parse('{"__proto__":["*"],"constructor":["*"]}'), {})
    expect(Object.entries(reduced)).toEqual([
      ["__proto__", []],
      ["constructor", []]
    ])
    expect(Object.getPrototypeOf(reduced)).toBe(Object.prototype)
  })

  it("leaves a lease that is one", () => {
    const many = (letter: string) => Array.from({ length: 900 }, (_, i) => `/${letter}/${i}`.padEnd(60, "-"))
    const requested = { "fs.read": [...many("a"), "/b/**"] }
    const ceiling = { "fs.read": ["/a/**", ...many("b")] }
    for (const lease of [requested, ceiling]) expect(Lease.invalidLease(lease)).toBeUndefined()
    const reduced = granted(requested, ceiling)
    expect(Lease.invalidLease(reduced)).toBeUndefined()
    expect(reduced["fs.read"]?.slice(0, 900)).toEqual(many("a"))
  })
})
