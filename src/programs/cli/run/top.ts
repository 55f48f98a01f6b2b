/** What `arcp top` does. */
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { TopFlags } from "../observe.js"
import { json } from "../text.js"
import { durationMs } from "../time.js"
import { UsageError } from "../UsageError.js"
import { storedOf } from "./stored.js"
import { type Look, look, page, summaryLine, summaryOf } from "./topView.js"

/** Bounds of `--interval`, in milliseconds. */
const shortest = 1_000
const longest = 3_600_000

/** Draws a page over the one before: each line to its end, and nothing of what was below. */
const drawn = (lines: ReadonlyArray<string>): string =>
  `\u001b[H${lines.map((line) => `${line}\u001b[K`).join("\n")}\n\u001b[J`

/** Clears the screen for the pages to come. */
const clear = "\u001b[2J"

const show = (flags: TopFlags, now: Look, before: Look | undefined): Effect.Effect<void> => {
  if (flags.json) return Console.log(json({ at: new Date(now.now).toISOString(), ...summaryOf(now, before) }))
  const { columns = 80, isTTY, rows = 24 } = process.stdout
  if (isTTY !== true) return Console.log(summaryLine(now, before))
  return Effect.sync(() => {
    process.stdout.write((before === undefined ? clear : "") + drawn(page(now, before, { columns, rows })))
  })
}

export const run = (flags: TopFlags) =>
  Effect.gen(function* () {
    const interval = durationMs(flags.interval)
    if (interval === undefined || interval < shortest || interval > longest)
      return yield* new UsageError({
        message: `--interval takes 1s to 1h, not ${JSON.stringify(flags.interval)}`
      })
    const looks = Option.getOrElse(flags.count, () => Number.POSITIVE_INFINITY)
    if (looks < 1) return yield* new UsageError({ message: "--count takes a number of looks, 1 or more" })
    const stored = yield* storedOf(flags)
    yield* Effect.gen(function* () {
      const { isHeld, store } = yield* stored.beside
      let before: Look | undefined
      for (let i = 0; i < looks; i++) {
        if (i > 0) yield* Effect.sleep(interval)
        const now = yield* Clock.currentTimeMillis
        const next: Look = yield* look(store, Option.getOrUndefined(flags.principal), {
          at: performance.now(),
          now,
          isHeld: yield* isHeld
        })
        yield* show(flags, next, before)
        before = next
      }
    }).pipe(Effect.scoped)
  })
