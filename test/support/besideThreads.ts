/** A test clock under what also waits for a thread: it goes on whenever something waits for it, and not before. */
import { assert } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as TestClock from "effect/TestClock"
import { inRealTime } from "../../src/services/runtime/within.js"

const passWhile = (goesOn: Effect.Effect<boolean>) =>
  Effect.gen(function* () {
    for (let i = 0; yield* goesOn; i++) {
      assert.isBelow(i, 10_000, "nothing comes of it")
      if ((yield* TestClock.sleeps()).length > 0) yield* TestClock.adjust("1 second")
      else yield* inRealTime(Effect.sleep("2 millis"))
    }
  })

/** Lets this much time pass, a second at a time. */
export const pass = (duration: Duration.DurationInput) =>
  Effect.flatMap(Clock.currentTimeMillis, (now) => {
    const then = now + Duration.toMillis(duration)
    return passWhile(Effect.map(Clock.currentTimeMillis, (time) => time < then))
  })

/** Lets time pass until a fiber is done; returns what it has come to. */
export const passUntil = <A, E>(fiber: Fiber.Fiber<A, E>) =>
  Effect.zipRight(passWhile(Effect.map(Fiber.poll(fiber), Option.isNone)), Fiber.join(fiber))

/** Lets time pass until an effect is done. */
export const passing = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(Effect.fork(effect), passUntil)
