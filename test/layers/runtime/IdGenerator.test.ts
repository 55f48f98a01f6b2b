import { expect, it, vi } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/TestClock"
import * as IdGeneratorLayer from "../../../src/layers/runtime/IdGenerator.js"
import * as SecretsLayer from "../../../src/layers/runtime/Secrets.js"
import { base32, idPattern } from "../../../src/protocol/Ids.js"
import { IdGenerator } from "../../../src/services/runtime/IdGenerator.js"
import { constantTimeEqual, Secrets } from "../../../src/services/runtime/Secrets.js"

const generate = (count: number) =>
  Effect.map(IdGenerator, (ids) => Array.from({ length: count }, () => ids.unsafeNext()))

it.effect("makes ULIDs that are unique and increase, across kinds of id", () =>
  Effect.gen(function* () {
    const ids = yield* IdGenerator
    const made = Array.from({ length: 5_000 }, (_, i) =>
      i % 2 === 0 ? ids.unsafeNext() : ids.unsafeMake("job")
    )
    for (const id of made) expect(id).toMatch(idPattern)
    const bare = made.map((id) => id.slice(-26))
    expect([...new Set(bare)].sort()).toEqual(bare)
    expect(ids.unsafeMake("sess")).toMatch(/^sess_/)
  }).pipe(Effect.provide(IdGeneratorLayer.layer()))
)

it.effect("takes the time from the clock at each call", () =>
  Effect.gen(function* () {
    const ids = yield* IdGenerator
    yield* TestClock.setTime(1_700_000_000_000)
    expect(ids.unsafeNext().slice(0, 10)).toBe(base32(1_700_000_000_000, 10))
    yield* TestClock.adjust("1 millis")
    expect(ids.unsafeNext().slice(0, 10)).toBe(base32(1_700_000_000_001, 10))
  }).pipe(Effect.provide(IdGeneratorLayer.layer()))
)

it.effect("repeats itself for a seed and differs between seeds and start times", () =>
  Effect.gen(function* () {
    const withSeed = (seed: string) =>
      generate(3).pipe(Effect.provide(IdGeneratorLayer.layer()), Effect.withRandom(Random.make(seed)))
    const first = yield* withSeed("a")
    expect(yield* withSeed("a")).toEqual(first)
    expect(yield* withSeed("b")).not.toEqual(first)
    yield* TestClock.adjust("1 millis")
    expect((yield* withSeed("a")).map((id) => id.slice(10))).not.toEqual(first.map((id) => id.slice(10)))
  })
)

it.effect("makes trace ids", () =>
  Effect.gen(function* () {
    const ids = yield* IdGenerator
    const made = new Set(Array.from({ length: 1_000 }, () => ids.unsafeTraceId()))
    expect(made.size).toBe(1_000)
    for (const id of made) expect(id).toMatch(/^[0-9a-f]{32}$/)
  }).pipe(Effect.provide(IdGeneratorLayer.layer()))
)

it.effect("makes resume tokens and digests", () =>
  Effect.gen(function* () {
    const secrets = yield* Secrets
    const a = Redacted.value(yield* secrets.resumeToken)
    expect(a).toMatch(/^rt_[0-9a-f]{64}$/)
    expect(Redacted.value(yield* secrets.resumeToken)).not.toBe(a)
    expect(yield* secrets.digest("abc")).toBe(
      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
    expect(yield* secrets.digest("é")).not.toBe(yield* secrets.digest("e"))
  }).pipe(Effect.provide(SecretsLayer.layer))
)

it("compares whole strings", () => {
  expect(constantTimeEqual("abc", "abc")).toBe(true)
  for (const other of ["abd", "bbc", "ab", "abca", "", "abcabc"]) {
    expect(constantTimeEqual("abc", other)).toBe(false)
    expect(constantTimeEqual(other, "abc")).toBe(false)
  }
})

it("compares secrets in a time that depends on their lengths only", () => {
  const digest = "0123456789abcdef".repeat(4)
  const looks = vi.spyOn(String.prototype, "charCodeAt")
  try {
    const lookedAt = (other: string, same: boolean) => {
      looks.mockClear()
      const equal = constantTimeEqual(digest, other)
      const n = looks.mock.calls.length
      expect(equal).toBe(same)
      return n
    }
    const all = lookedAt(digest, true)
    expect(lookedAt(`x${digest.slice(1)}`, false)).toBe(all)
    expect(lookedAt(`${digest.slice(0, -1)}x`, false)).toBe(all)
    expect(lookedAt("", false)).toBe(all)
    expect(lookedAt(`${digest}0`, false)).toBe(all)
  } finally {
    looks.mockRestore()
  }
})
