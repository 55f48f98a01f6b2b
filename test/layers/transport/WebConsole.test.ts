import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/TestClock"
import * as SecretsLayer from "../../../src/layers/runtime/Secrets.js"
import * as WebConsole from "../../../src/layers/transport/WebConsole.js"

it.effect("the code of a login is good once, and for an hour", () =>
  Effect.gen(function* () {
    const token = Redacted.make("secret")
    const made = () => WebConsole.login(token)
    const login = yield* made()
    const code = Redacted.value(login.code)
    expect(code).toMatch(/^[0-9a-f]{64}$/)
    for (const other of ["", code.slice(1), `${code}0`, code.toUpperCase().replace(/\d/g, "0"), "secret"])
      expect(Option.isNone(yield* login.exchange(other)), other).toBe(true)
    expect(yield* login.exchange(code)).toEqual(Option.some(token))
    expect(Option.isNone(yield* login.exchange(code))).toBe(true)

    const late = yield* made()
    yield* TestClock.adjust("1 hour")
    const last = yield* made()
    expect(yield* late.exchange(Redacted.value(late.code))).toEqual(Option.some(token))
    yield* TestClock.adjust("3601 seconds")
    expect(Option.isNone(yield* last.exchange(Redacted.value(last.code)))).toBe(true)

    // Two at once: one of them.
    const raced = yield* made()
    const found = yield* Effect.all(
      Array.from({ length: 8 }, () => raced.exchange(Redacted.value(raced.code))),
      { concurrency: "unbounded" }
    )
    expect(found.filter(Option.isSome)).toHaveLength(1)
  }).pipe(Effect.provide(SecretsLayer.layer))
)
