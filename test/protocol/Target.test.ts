import { describe, expect, it } from "@effect/vitest"
import * as Either from "effect/Either"
import * as FastCheck from "effect/FastCheck"
import { canonical, kindOf, type TargetKind } from "../../src/protocol/Target.js"

it.each<[string, TargetKind]>([
  ["fs.read", "path"],
  ["fs.write", "path"],
  ["net.fetch", "url"],
  ["tool.call", "name"],
  ["agent.delegate", "name"],
  ["model.use", "name"],
  ["x-vendor.acme.fs.read", "name"]
])("a target of %s is a %s", (capability, kind) => expect(kindOf(capability)).toBe(kind))

/** Pieces of which nasty targets are made. */
const pieces = [
  ..."/.\\:@*?#%;aAzZ09~-_ é\u0301ß\u3002\uff0f\u00ad\u200b\u202e",
  ...[
    "..",
    "%2e",
    "%2E",
    "%2f",
    "%2F",
    "%5c",
    "%25",
    "%41",
    "%7e",
    "%c3%a9",
    "%00",
    "%zz",
    "%3b",
    "//",
    "/../",
    "/./"
  ],
  ...[
    "\0",
    "\t",
    "\n",
    "\u0085",
    "\ud800",
    "\udc00",
    "\u{1f600}",
    "xn--",
    "xn--bcher-kva",
    "0x7f",
    "127.1",
    "[::1]"
  ],
  ...[
    "http://",
    "https://",
    "wss://",
    "HTTPS://",
    "file://",
    "https:",
    "good.com",
    "good.com:443",
    ":80",
    "me@"
  ]
]
const nasty = FastCheck.array(FastCheck.constantFrom(...pieces), { maxLength: 12 }).map((all) => all.join(""))
const starts: Readonly<Record<TargetKind, ReadonlyArray<string>>> = {
  path: ["/", ""],
  url: ["https://good.com/", "http://good.com:8080", "ws://", ""],
  name: [""]
}
const targets = FastCheck.constantFrom<TargetKind>("path", "url", "name").chain((kind) =>
  FastCheck.tuple(
    FastCheck.constant(kind),
    FastCheck.tuple(FastCheck.constantFrom(...starts[kind]), nasty).map((parts) => parts.join(""))
  )
)

describe("the canonical form", () => {
  it("is its own canonical form", () => {
    const seen = { path: 0, url: 0, name: 0 }
    FastCheck.assert(
      FastCheck.property(targets, ([kind, text]) => {
        const once = canonical(kind, text)
        if (Either.isLeft(once)) return
        seen[kind]++
        expect(canonical(kind, once.right)).toEqual(once)
      }),
      { numRuns: 4000 }
    )
    for (const count of Object.values(seen)) expect(count).toBeGreaterThan(100)
  })

  it("of a path has no dot segments, no empty ones and nothing else changed", () => {
    FastCheck.assert(
      FastCheck.property(nasty, (text) => {
        const path = canonical("path", `/${text}`)
        if (Either.isLeft(path)) return
        expect(path.right).toMatch(/^\/(?:[^/]+(?:\/[^/]+)*)?$/)
        expect(path.right).not.toMatch(/\/\.\.?(?:\/|$)/)
        // As a file system that knows no links would walk it.
        const walked: Array<string> = []
        for (const name of text.split("/"))
          if (name === "..") walked.pop()
          else if (name !== "" && name !== ".") walked.push(name)
        expect(path.right).toBe(`/${walked.join("/")}`)
      }),
      { numRuns: 1000 }
    )
  })

  it("of a URL has the host, the path and the query that WHATWG sees", () => {
    let seen = 0
    FastCheck.assert(
      FastCheck.property(targets, ([kind, text]) => {
        if (kind !== "url") return
        const url = canonical("url", text)
        if (Either.isLeft(url)) return
        seen++
        const given = new URL(text)
        const made = new URL(url.right)
        expect(made.host).toBe(given.host)
        expect(made.protocol).toBe(given.protocol)
        expect([made.username, made.password, made.hash]).toEqual(["", "", ""])
        for (const part of ["pathname", "search"] as const) {
          expect(decodeURIBytes(made[part])).toBe(decodeURIBytes(given[part]))
          expect(made[part]).not.toMatch(
            /%[0-9A-F]?[a-f]|%(?:2D|2E|3\d|4[1-9A-F]|5[0-9A]|5F|6[1-9A-F]|7[0-9A]|7E)/
          )
        }
        expect(made.pathname.split(/\/|%2F|%5C/)).not.toContain("..")
      }),
      { numRuns: 4000 }
    )
    expect(seen).toBeGreaterThan(100)
  })

  it("of a name is the name", () => {
    FastCheck.assert(
      FastCheck.property(nasty, (text) => {
        const name = canonical("name", text)
        if (Either.isRight(name)) expect(name.right).toBe(text)
        else expect(text === "" || /[\0-\x1f\x80-\x9f]|[\ud800-\udfff]/.test(text)).toBe(true)
      }),
      { numRuns: 500 }
    )
  })

  it.each<[TargetKind, string, string]>([
    ["path", "/", "/"],
    ["path", "/..", "/"],
    ["path", "//", "/"],
    ["path", "/a/", "/a"],
    ["path", "/a/./b/../c//d", "/a/c/d"],
    ["path", "/...", "/..."],
    ["path", "/.a/..b/c.", "/.a/..b/c."],
    ["path", "/a%2F..%2e/*", "/a%2F..%2e/*"],
    ["url", "https://good.com", "https://good.com/"],
    ["url", "https://good.com?", "https://good.com/"],
    ["url", "https://good.com?#", "https://good.com/"],
    ["url", "WSS://Good.COM:443/%7E%2f%C3%a9é?%7e=%2f&'#x", "wss://good.com/~%2F%C3%A9%C3%A9?~=%2F&%27"],
    ["url", "http://good.com:443/", "http://good.com:443/"],
    ["url", "http://h/%252e%252E/%2541", "http://h/%252e%252E/%2541"],
    ["url", "http://h/a/%2E%2e/%2e/b//", "http://h/b//"],
    ["name", "a b/../%41", "a b/../%41"]
  ])("of the %s %s is %s", (kind, target, expected) => {
    expect(canonical(kind, target)).toEqual(Either.right(expected))
  })

  it.each<[TargetKind, string, RegExp]>([
    ["path", "", /empty/],
    ["path", "secret", /absolute/],
    ["path", "/secret\0", /control/],
    ["path", "/secret\\", /backslash/],
    ["path", `/secret${"a".repeat(4096)}`, /4096/],
    ["name", `secret${"a".repeat(1024)}`, /1024/],
    ["name", "secret\ud800", /Unicode/],
    ["url", `https://secret/${"a".repeat(8192)}`, /8192/],
    ["url", `https://secret/${"é".repeat(4000)}`, /8192/],
    ["url", "secret", /start with http/],
    ["url", "file:///secret", /start with http/],
    ["url", "https:secret.com", /start with http/],
    ["url", "https://me:secret@good.com/", /user name/],
    ["url", "https://@secret.com/", /user name/],
    ["url", "https://secret.com./", /dot/],
    ["url", "https://secret..com/", /label/],
    ["url", "https://secret.com/ ", /white space/],
    ["url", "https://secret.com/%", /%25/],
    ["url", "https://secret.com/?%4", /%25/],
    ["url", "https://secret:99999/", /not a URL/],
    ["url", "https://secret/a/..%5c", /dot segments/],
    ["url", "https://secret/a%2f%2e%2e%3Bb", /dot segments/]
  ])("of the %s %j is none, and the reason does not show it", (kind, target, why) => {
    const refused = Either.getOrThrow(Either.flip(canonical(kind, target)))
    expect(refused).toMatch(why)
    expect(refused).not.toContain("secret")
  })
})

/** Percent-decoded to the end, one character a byte. */
const decodeURIBytes = (text: string): string =>
  text.replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
