import { describe, expect, it } from "@effect/vitest"
import * as Either from "effect/Either"
import * as FastCheck from "effect/FastCheck"
import { compile, covers } from "../../src/protocol/Pattern.js"
import { canonical, type TargetKind } from "../../src/protocol/Target.js"

// The oracle: tries everything, as the text of §9.2 says it.

const segmentOracle = (pattern: string, text: string, host: boolean): boolean => {
  if (pattern === "") return text === ""
  if (pattern[0] !== "*")
    return pattern[0] === text[0] && segmentOracle(pattern.slice(1), text.slice(1), host)
  for (let n = 0; n <= text.length; n++) {
    if (segmentOracle(pattern.slice(1), text.slice(n), host)) return true
    if (host && /[.:]/.test(text[n] ?? "")) return false
  }
  return false
}

const segmentsOracle = (
  pattern: ReadonlyArray<string>,
  target: ReadonlyArray<string>,
  index: number
): boolean => {
  const [first, ...rest] = pattern
  if (first === undefined) return target.length === 0
  if (first === "**")
    return target
      .concat("")
      .some((_, n) => segmentsOracle(rest, target.slice(n), index < 0 ? index : index + n))
  const [text, ...others] = target
  return (
    text !== undefined &&
    segmentOracle(first, text, index === 2) &&
    segmentsOracle(rest, others, index < 0 ? index : index + 1)
  )
}

const split = (kind: TargetKind, text: string): ReadonlyArray<string> =>
  kind === "path" && text === "/" ? [""] : text.split("/")

const oracle = (kind: TargetKind, pattern: string, target: string): boolean => {
  const matches = (p: string, t: string, index: number) =>
    segmentsOracle(split(kind, p), split(kind, t), index)
  if (kind !== "url") return matches(pattern, target, -1)
  const [path = "", query] = target.split(/\?(.*)/s)
  const [ofPath = "", ofQuery] = pattern.split(/\?(.*)/s)
  if (ofQuery !== undefined)
    return query !== undefined && matches(ofPath, path, 0) && matches(ofQuery, query, -1)
  return query === undefined
    ? matches(pattern, target, 0)
    : pattern.endsWith("*") && matches(pattern, path, 0) && matches(pattern, target, 0)
}

// Patterns and targets that have a chance to match.

const segment = FastCheck.oneof(
  { weight: 1, arbitrary: FastCheck.constant("**") },
  { weight: 1, arbitrary: FastCheck.constant("*") },
  {
    weight: 4,
    arbitrary: FastCheck.string({ unit: FastCheck.constantFrom("a", "b", "*", "."), maxLength: 4 })
  }
)
const segments = FastCheck.array(segment, { maxLength: 5 })
const host = FastCheck.oneof(
  { weight: 1, arbitrary: FastCheck.constant("**") },
  {
    weight: 5,
    arbitrary: FastCheck.tuple(
      FastCheck.string({ unit: FastCheck.constantFrom("a", "b", "*", ".", "-"), minLength: 1, maxLength: 5 }),
      FastCheck.constantFrom("", "", ":8", ":*", ":8*")
    ).map(([name, port]) => name + port)
  }
)
const query = FastCheck.oneof(
  FastCheck.constant(""),
  FastCheck.tuple(segments, FastCheck.constantFrom("?", "?a=", "?*")).map(
    ([all, mark]) => mark + all.join("/")
  )
)
const patternOf: Readonly<Record<TargetKind, FastCheck.Arbitrary<string>>> = {
  name: segments.map((all) => all.join("/")),
  path: FastCheck.tuple(FastCheck.constantFrom("/", "/", "/", ""), segments).map(
    ([root, all]) => root + all.join("/")
  ),
  url: FastCheck.oneof(
    {
      weight: 8,
      arbitrary: FastCheck.tuple(FastCheck.constantFrom("http", "http", "h*"), host, segments, query).map(
        ([scheme, name, all, end]) => `${scheme}://${name}${all.map((each) => `/${each}`).join("")}${end}`
      )
    },
    {
      weight: 1,
      arbitrary: FastCheck.tuple(segments, query).map(([all, end]) => ["**", ...all].join("/") + end)
    }
  )
}

/** A target made from a pattern, by filling its wildcards. */
const fill = (pattern: string, fillings: ReadonlyArray<string>): string => {
  let i = 0
  const next = (): string => fillings[i++ % fillings.length] ?? ""
  return pattern
    .split("/")
    .flatMap((each) =>
      each === "**"
        ? next()
            .split("/")
            .filter((_, n, all) => all.length > 1 || n > 0)
        : [each.replace(/\*/g, next)]
    )
    .join("/")
}

const filling = FastCheck.array(
  FastCheck.string({ unit: FastCheck.constantFrom("a", "b", ".", "/", "?", ":", "*"), maxLength: 4 }),
  { minLength: 1, maxLength: 5 }
)
const kinds: ReadonlyArray<TargetKind> = ["name", "path", "url"]
const cases = FastCheck.constantFrom(...kinds).chain((kind) =>
  FastCheck.tuple(
    FastCheck.constant(kind),
    patternOf[kind],
    patternOf[kind],
    FastCheck.array(filling, { minLength: 3, maxLength: 3 })
  )
)

/** A pattern that is likely to cover this one. */
const widened = (pattern: string, seed: number): string => {
  let bits = seed
  const chance = (n: number): boolean => {
    bits = (Math.imul(bits, 1103515245) + 12345) >>> 0
    return (bits >>> 16) % n === 0
  }
  const wide = pattern.split("/").map((each, index) => {
    if (each === "" || each.endsWith(":")) return each
    if (index > 0 && chance(5)) return "**"
    return [...each].map((char) => (/[a-z]/.test(char) && chance(3) ? "*" : char)).join("")
  })
  return wide.join("/")
}

describe("a pattern", () => {
  it.each<[TargetKind, string, string, boolean]>([
    ["path", "/src/**", "/src", true],
    ["path", "/src/**", "/src/a/b", true],
    ["path", "/src/**", "/srca", false],
    ["path", "**", "/", true],
    ["path", "/**", "/", true],
    ["path", "/*", "/", false],
    ["path", "/", "/", true],
    ["path", "**/a", "/a", true],
    ["path", "/a/**/b/**/c", "/a/b/b/c/c", true],
    ["path", "/a/**/b/**/c", "/a/c/b", false],
    ["path", "/a*b*c", "/abbcbc", true],
    ["path", "/*ab*ab", "/ab", false],
    ["name", "a*", "a", true],
    ["name", "a?c", "abc", false],
    ["name", "a.c", "abc", false],
    ["name", "**a", "x/a", false],
    ["name", "***", "a", true],
    ["name", "***", "a/b", false],
    ["name", "*\u{1f600}", "\u{1f600}\u{1f600}", true]
  ])("%s %s matches %s: %s", (kind, pattern, target, expected) => {
    expect(compile(kind, pattern).matches(target)).toBe(expected)
    expect(oracle(kind, compile(kind, pattern).canonical ?? "", target)).toBe(expected)
  })

  it("matches what the oracle matches", () => {
    const seen = { true: 0, false: 0 }
    FastCheck.assert(
      FastCheck.property(cases, ([kind, source, other, fillings]) => {
        const pattern = compile(kind, source)
        for (const text of [...fillings.map((each) => fill(source, each)), fill(other, fillings[0] ?? [])]) {
          const target = canonical(kind, text)
          if (Either.isLeft(target)) continue
          const expected = pattern.canonical !== undefined && oracle(kind, pattern.canonical, target.right)
          seen[`${expected}`]++
          expect([pattern.canonical, target.right, pattern.matches(target.right)]).toEqual([
            pattern.canonical,
            target.right,
            expected
          ])
        }
      }),
      { numRuns: 1500 }
    )
    expect(Math.min(seen.true, seen.false)).toBeGreaterThan(500)
  })

  it("without a wildcard matches what is the same as its target", () => {
    FastCheck.assert(
      FastCheck.property(cases, ([kind, source, other]) => {
        const text = source.replace(/\*/g, "x")
        const target = canonical(kind, text)
        const pattern = compile(kind, text)
        if (Either.isLeft(target)) return
        expect(pattern.canonical).toBe(target.right)
        expect(pattern.matches(target.right)).toBe(true)
        const another = canonical(kind, other)
        if (Either.isRight(another))
          expect(pattern.matches(another.right)).toBe(another.right === target.right)
      }),
      { numRuns: 500 }
    )
  })

  it("is its own canonical form", () => {
    FastCheck.assert(
      FastCheck.property(cases, ([kind, source]) => {
        const pattern = compile(kind, source)
        if (pattern.canonical !== undefined)
          expect(compile(kind, pattern.canonical).canonical).toBe(pattern.canonical)
      }),
      { numRuns: 500 }
    )
  })

  it.each<[TargetKind, string, string | undefined]>([
    ["path", "/a//./b/", "/a/b"],
    ["path", "/a/../b/**/.", "/b/**"],
    ["path", "/../a", "/a"],
    ["path", "/a/*/../b", undefined],
    ["path", "/a/b*/c/../../d", undefined],
    ["path", "**/..", undefined],
    ["path", "**/a/../b", "**/b"],
    ["path", "a/**", undefined],
    ["path", "./a", undefined],
    ["path", "*/a", undefined],
    ["path", "/a\\b", undefined],
    ["path", "/a\0", undefined],
    ["path", "/\ud800", undefined],
    ["path", "/a**b/***", "/a*b/*"],
    ["path", "/%2e%2E", "/%2e%2E"],
    ["name", "a/../b", "a/../b"],
    ["name", "a\nb", undefined],
    ["url", "HTTPS://API.Example:443", "https://api.example/"],
    ["url", "https://h/a/./../b/%2e%2E/%7e%2fc#d", "https://h/~%2Fc"],
    ["url", "https://h/a/..", "https://h/"],
    ["url", "https://h/a/b/.", "https://h/a/b/"],
    ["url", "https://h//a/", "https://h//a/"],
    ["url", "https://h/*/..", undefined],
    ["url", "https://h/caf\u00e9/*?q=\u00e9*", "https://h/caf%C3%A9/*?q=%C3%A9*"],
    ["url", "https://h/%2A", "https://h/%2A"],
    ["url", "https://h/%", undefined],
    ["url", "https://h/%4*", undefined],
    ["url", "https://*.B\u00fccher.de/", "https://*.xn--bcher-kva.de/"],
    ["url", "https://b\u00fc*.de/", undefined],
    ["url", "https://10.*.0.1:0080/", "https://10.*.0.1:80/"],
    ["url", "http://0x7f.1:80/", "http://127.0.0.1/"],
    ["url", "http://[0:0::1]:*/", "http://[::1]:*/"],
    ["url", "http://[*]/", undefined],
    ["url", "http://h:80:80/", undefined],
    ["url", "http://h:65536/", undefined],
    ["url", "http://h./", undefined],
    ["url", "http://a..b/", undefined],
    ["url", "http://me@h/", undefined],
    ["url", "http://@h/", undefined],
    ["url", "http://%2A/", undefined],
    ["url", "http://\uff0a.com/", undefined],
    ["url", "http://h\\a", undefined],
    ["url", "http://h /", undefined],
    ["url", "http:///a", undefined],
    ["url", "http:h", undefined],
    ["url", "ftp://h/", undefined],
    ["url", "/a", undefined],
    ["url", "*", undefined],
    ["url", "**", "**"],
    ["url", "https://**", "https://**"],
    ["url", "https://**/a/./b", "https://**/a/b"],
    ["url", "https://**/../a", undefined],
    ["url", "https://**.com/", "https://*.com/"],
    ["url", "**/a/%7E/../b?c#d", "**/a/b?c"]
  ])("%s %s is compared as %s", (kind, source, expected) => {
    const pattern = compile(kind, source)
    expect(pattern.canonical).toBe(expected)
    expect(pattern.source).toBe(source)
    if (expected === undefined) {
      for (const target of ["/a", "/b", "a", "https://h/", "http://h/"])
        expect(pattern.matches(target)).toBe(false)
      expect(covers(kind, "**", source)).toBe(false)
      expect(covers(kind, source, source)).toBe(false)
    }
  })

  it("takes no longer than its length times that of the target", () => {
    // With backtracking these would not end.
    const long = "a".repeat(4000)
    expect(compile("path", `/${"*a".repeat(500)}b`).matches(`/${long}`)).toBe(false)
    expect(compile("path", `/${"a*".repeat(500)}b`).matches(`/${long}`)).toBe(false)
    expect(compile("path", `/${"**/a/".repeat(200)}b`).matches(`/${"a/".repeat(2000)}a`)).toBe(false)
    expect(compile("path", `/${"**/*a*/".repeat(140)}b`).matches(`/${"aa/".repeat(1300)}a`)).toBe(false)
    expect(compile("url", `https://${"*a".repeat(100)}b/`).matches(`https://${"a".repeat(200)}/`)).toBe(false)
    expect(compile("url", `https://${"*.".repeat(100)}b/`).matches(`https://${"a.".repeat(100)}a/`)).toBe(
      false
    )
    expect(covers("name", `${"*a".repeat(500)}b`, "a*".repeat(500))).toBe(false)
    expect(covers("name", `${"**/a/".repeat(200)}b`, "a/**/".repeat(200))).toBe(false)
  })
})

describe("one pattern covers another", () => {
  it.each<[TargetKind, string, string, boolean]>([
    ["path", "/src/**", "/src/**", true],
    ["path", "/src/**", "/src", true],
    ["path", "/src/**", "/src/a/*.ts", true],
    ["path", "/src/**", "/src/a/../b/**", true],
    ["path", "/src/**", "/src/../etc", false],
    ["path", "/src/**", "/srcs/a", false],
    ["path", "/src/*", "/src/a", true],
    ["path", "/src/*", "/src/**", false],
    ["path", "/src/*", "/src/a/b", false],
    ["path", "/*/**", "/a/b", true],
    ["path", "/*", "/", false],
    ["path", "/**", "/", true],
    ["path", "**", "/anything/at/*/all/**", true],
    ["path", "/**", "**", false],
    ["path", "/a*c", "/abc", true],
    ["path", "/a*c", "/a*b*c", true],
    ["path", "/a*c", "/a*", false],
    ["path", "/a*b*c", "/a*c", false],
    ["path", "/**/a", "/**/b/a", true],
    ["path", "/**/a/**", "/b/**/a/*", true],
    ["path", "/**/a", "/**", false],
    ["url", "https://*.a.com/**", "https://b.a.com/c?d=/e", true],
    ["url", "https://*.a.com/**", "https://*.b.a.com/", false],
    ["url", "https://*/**", "https://a.com/", false],
    ["url", "https://*/**", "https://a:8443/", false],
    ["url", "https://*:*/**", "https://a:8443/", true],
    ["url", "https://**", "https://*.a.com:*/**", true],
    ["url", "https://A.com:443/é", "https://a.com/%c3%A9", true],
    ["url", "https://a.com/*", "https://a.com/b?c", true],
    ["url", "https://a.com/*", "https://a.com/b?c=/d", false],
    ["url", "https://a.com/**/x", "https://a.com/b?c/x", false],
    ["url", "https://a.com/**/x", "https://a.com/x?c/x", false],
    ["url", "https://a.com/b?c=*", "https://a.com/b?c=d", true],
    ["url", "https://a.com/b?c=*", "https://a.com/b*", false],
    ["url", "https://a.com/b", "https://a.com/b?c", false],
    ["url", "https://**/*.json", "https://**/a.json", true],
    // The segment behind `**` may turn out to be the host.
    ["url", "https://**/*", "https://**/a.json", false],
    ["name", "search.*", "search.web.*", true],
    ["name", "*", "a/b", false]
  ])("%s %s covers %s: %s", (kind, by, pattern, expected) => {
    expect(covers(kind, by, pattern)).toBe(expected)
  })

  it("only if it matches every target of the other", () => {
    const positive = { name: 0, path: 0, url: 0 }
    FastCheck.assert(
      FastCheck.property(cases, FastCheck.nat(), ([kind, source, other, fillings], seed) => {
        const pattern = compile(kind, source)
        for (const by of [widened(source, seed), widened(source, seed + 1), other]) {
          if (!covers(kind, by, source)) continue
          const wide = compile(kind, by)
          for (const each of fillings) {
            const target = canonical(kind, fill(source, each))
            if (Either.isLeft(target) || !pattern.matches(target.right)) continue
            if (by !== source) positive[kind]++
            expect([by, source, target.right, wide.matches(target.right)]).toEqual([
              by,
              source,
              target.right,
              true
            ])
          }
        }
      }),
      { numRuns: 1500 }
    )
    for (const kind of kinds) expect(positive[kind]).toBeGreaterThan(50)
  })

  it("and every pattern that can match covers itself", () => {
    FastCheck.assert(
      FastCheck.property(cases, ([kind, source]) => {
        expect(covers(kind, source, source)).toBe(compile(kind, source).canonical !== undefined)
      }),
      { numRuns: 500 }
    )
  })

  it("and what covers a cover covers", () => {
    let chains = 0
    FastCheck.assert(
      FastCheck.property(cases, FastCheck.nat(), ([kind, source], seed) => {
        const wide = widened(source, seed)
        const wider = widened(wide, seed + 1)
        if (!covers(kind, wide, source) || !covers(kind, wider, wide)) return
        chains++
        expect([wider, source, covers(kind, wider, source)]).toEqual([wider, source, true])
      }),
      { numRuns: 1500 }
    )
    expect(chains).toBeGreaterThan(100)
  })
})
