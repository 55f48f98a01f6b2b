import { describe, expect, it } from "@effect/vitest"
import * as Either from "effect/Either"
import * as FastCheck from "effect/FastCheck"
import * as Lease from "../../src/protocol/Lease.js"
import * as Pattern from "../../src/protocol/Pattern.js"
import * as Target from "../../src/protocol/Target.js"
import { attacks } from "./attacks.js"

describe("known attacks", () => {
  it.each(attacks.map((attack) => [`${attack.capability}: ${attack.name}`, attack] as const))(
    "%s",
    (_, { capability, patterns, target, verdict }) => {
      const permitted = Either.isRight(Lease.compile({ [capability]: patterns }).permits(capability, target))
      expect(permitted ? "allowed" : "denied").toBe(verdict)
    }
  )
})

/** What patterns mean, as plainly as it can be said: try everything. */
const oracle = (
  pattern: ReadonlyArray<string>,
  target: ReadonlyArray<string>,
  host: number,
  at = 0
): boolean => {
  const [first, ...rest] = pattern
  if (first === undefined) return target.length === 0
  if (first === "**") {
    for (let i = 0; i <= target.length; i++) if (oracle(rest, target.slice(i), host, at + i)) return true
    return false
  }
  const [segment, ...others] = target
  return (
    segment !== undefined && oracleSegment(first, segment, at === host) && oracle(rest, others, host, at + 1)
  )
}
const oracleSegment = (pattern: string, text: string, host: boolean): boolean => {
  if (pattern === "") return text === ""
  if (pattern[0] !== "*")
    return text[0] === pattern[0] && oracleSegment(pattern.slice(1), text.slice(1), host)
  for (let i = 0; i <= text.length; i++) {
    if (oracleSegment(pattern.slice(1), text.slice(i), host)) return true
    if (host && (text[i] === "." || text[i] === ":")) return false
  }
  return false
}

const segment = FastCheck.stringOf(FastCheck.constantFrom("a", "b", "*"), { maxLength: 4 })
const deep = FastCheck.oneof(segment, FastCheck.constant("**"))
const names = FastCheck.array(deep, { minLength: 1, maxLength: 5 }).map((parts) => parts.join("/"))
const texts = FastCheck.array(FastCheck.stringOf(FastCheck.constantFrom("a", "b"), { maxLength: 4 }), {
  minLength: 1,
  maxLength: 6
}).map((parts) => parts.join("/"))
const runs = { numRuns: 3_000 }

/** A target that a canonical pattern means, wildcards filled in from a list of choices. */
const fill = (pattern: string, choices: ReadonlyArray<string>): string => {
  let i = 0
  const next = () => choices[i++ % choices.length] ?? ""
  return pattern
    .split("/")
    .flatMap((part) => (part === "**" ? next().split("") : [part.replace(/\*/g, () => next().slice(0, 2))]))
    .join("/")
}
const fillings = FastCheck.array(FastCheck.stringOf(FastCheck.constantFrom("a", "b"), { maxLength: 3 }), {
  minLength: 1,
  maxLength: 5
})

describe("matching", () => {
  it("is what the oracle says, for names", () => {
    FastCheck.assert(
      FastCheck.property(names, texts, (pattern, target) => {
        const compiled = Pattern.compile("name", pattern)
        expect(compiled.matches(target)).toBe(
          oracle((compiled.canonical as string).split("/"), target.split("/"), -1)
        )
      }),
      runs
    )
  })
  it("is what the oracle says, for targets made from the pattern", () => {
    FastCheck.assert(
      FastCheck.property(names, fillings, (pattern, choices) => {
        const compiled = Pattern.compile("name", pattern)
        const target = fill(compiled.canonical as string, choices)
        expect(compiled.matches(target)).toBe(
          oracle((compiled.canonical as string).split("/"), target.split("/"), -1)
        )
      }),
      runs
    )
  })
  it("is what the oracle says, for URLs", () => {
    const host = FastCheck.stringOf(FastCheck.constantFrom("a", "*", "."), { minLength: 1, maxLength: 5 })
    const plainHost = FastCheck.stringOf(FastCheck.constantFrom("a", "."), { minLength: 1, maxLength: 5 })
    FastCheck.assert(
      FastCheck.property(host, names, plainHost, texts, (h, path, th, tpath) => {
        const compiled = Pattern.compile("url", `https://${h}/${path}`)
        const target = Target.canonical("url", `https://${th}/${tpath}`)
        if (Either.isLeft(target)) return
        expect(compiled.matches(target.right)).toBe(
          compiled.canonical !== undefined &&
            oracle(compiled.canonical.split("/"), target.right.split("/"), 2)
        )
      }),
      runs
    )
  })
  it("takes no longer than pattern times target", () => {
    const steps = Pattern.compile("name", `${"*a".repeat(500)}b`)
    expect(steps.matches("a".repeat(8_000))).toBe(false)
    const deepSteps = Pattern.compile("path", `/${"**/a/".repeat(200)}b`)
    expect(deepSteps.matches(`/${"a/".repeat(2_000)}c`)).toBe(false)
  })
})

describe("covering", () => {
  it("means that whatever the narrow one matches the wide one matches", () => {
    let covered = 0
    FastCheck.assert(
      FastCheck.property(names, names, texts, fillings, (by, pattern, text, choices) => {
        if (!Pattern.covers("name", by, pattern)) return
        covered++
        const wide = Pattern.compile("name", by)
        const narrow = Pattern.compile("name", pattern)
        for (const target of [text, fill(narrow.canonical as string, choices)])
          if (narrow.matches(target)) expect(wide.matches(target)).toBe(true)
      }),
      { numRuns: 20_000 }
    )
    expect(covered).toBeGreaterThan(100)
  })
  it("is no more than that for URLs", () => {
    const part = FastCheck.constantFrom("a", "*", "**", "a.b", "*.b", "a*", "a:1", "*:*")
    const pattern = FastCheck.array(part, { minLength: 1, maxLength: 3 }).map(
      (parts) => `https://${parts.join("/")}`
    )
    const hosts = FastCheck.constantFrom("a", "b", "a.b", "x.y.b", "ab", "a:1", "a.b:1")
    let covered = 0
    FastCheck.assert(
      FastCheck.property(pattern, pattern, hosts, texts, (by, narrow, host, path) => {
        if (!Pattern.covers("url", by, narrow)) return
        const target = Target.canonical("url", `https://${host}/${path}`)
        if (Either.isLeft(target) || !Pattern.compile("url", narrow).matches(target.right)) return
        covered++
        expect(Pattern.compile("url", by).matches(target.right)).toBe(true)
      }),
      { numRuns: 20_000 }
    )
    expect(covered).toBeGreaterThan(100)
  })
  it.each([
    ["path", "/work/**", "/work/a/**", true],
    ["path", "/work/**", "/work", true],
    ["path", "/work/**", "/work/*", true],
    ["path", "/work/*", "/work/**", false],
    ["path", "/work/**", "/work/../etc/**", false],
    ["path", "/**", "relative/**", false],
    ["path", "/work/*.ts", "/work/a*.ts", true],
    ["path", "/work/a*", "/work/*", false],
    ["path", "/*/*", "/**", false],
    ["url", "https://*.example.com/**", "https://a.example.com/x", true],
    ["url", "https://*.example.com/**", "https://a.b.example.com/x", false],
    ["url", "https://*/**", "https://example.com/**", false],
    ["url", "https://**", "https://example.com/**", true],
    ["url", "https://**", "http://example.com/**", false],
    ["url", "https://a.example/**", "HTTPS://A.example:443/x", true],
    ["url", "https://a.example/**", "https://me@a.example/x", false],
    ["name", "search.*", "search.web", true],
    ["name", "search.*", "search.web/x", false]
  ] as const)("%s %s covers %s: %s", (kind, by, pattern, expected) => {
    expect(Pattern.covers(kind, by, pattern)).toBe(expected)
  })
})

describe("canonical targets", () => {
  const nasty = (alphabet: ReadonlyArray<string>) =>
    FastCheck.array(FastCheck.constantFrom(...alphabet), { maxLength: 14 }).map((parts) => parts.join(""))
  it.each([
    ["path", "/", ["/", ".", "..", "a", "%2e", "\\", "*", "\u00e9", " "]],
    [
      "url",
      "https://h.example/",
      [
        "/",
        ".",
        "..",
        "%2e",
        "%2E",
        "%25",
        "%2f",
        "%41",
        "%",
        "a",
        "\u00e9",
        "?",
        "#",
        "@",
        ":",
        "*",
        "[",
        "|"
      ]
    ],
    [
      "url",
      "https://",
      ["a", ".", "-", "%41", "\u00e9", "1", "0x7f", ":", "80", "443", "/", "@", "A", "[", "]", "*"]
    ],
    ["name", "", ["a", ".", "/", "*", "\u00e9"]]
  ] as const)("stay as they are: %s %s", (kind, prefix, alphabet) => {
    let canonical = 0
    FastCheck.assert(
      FastCheck.property(nasty(alphabet), (text) => {
        const once = Target.canonical(kind, prefix + text)
        if (Either.isLeft(once)) return
        canonical++
        expect(Target.canonical(kind, once.right)).toEqual(once)
        if (kind !== "name")
          expect(
            once.right
              .split("?")[0]
              ?.split("/")
              .some((part) => part === "." || part === "..")
          ).toBe(false)
      }),
      runs
    )
    expect(canonical).toBeGreaterThan(50)
  })
})
