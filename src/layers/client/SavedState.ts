/** A session's place, kept where the next process finds it. */
import type { KeyValueStore } from "@effect/platform/KeyValueStore"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Check from "../../protocol/Check.js"
import type * as Message from "../../protocol/Message.js"
import type { ResumeState } from "../../services/ArcpClient.js"

/** A job of the session, and how far its reader has got. */
export interface SavedJob {
  readonly jobId: string
  readonly agent: string
  readonly traceId?: string | undefined
  readonly lease: Message.Accepted["lease"]
  readonly expiresAt?: string | undefined
  readonly idempotencyKey?: string | undefined
  readonly eventsAfter: number
  /** Its chunks have to be read again from here. */
  readonly chunksAfter: number
}

export interface Saved extends ResumeState {
  readonly jobs: ReadonlyArray<SavedJob>
}

const check = Check.object<Saved>({
  sessionId: Check.text,
  resumeToken: Check.text,
  lastEventSeq: Check.count,
  jobs: Check.array(
    Check.object<SavedJob>({
      jobId: Check.text,
      agent: Check.text,
      traceId: Check.optional(Check.string),
      lease: Check.record(Check.array(Check.string)),
      expiresAt: Check.optional(Check.string),
      idempotencyKey: Check.optional(Check.string),
      eventsAfter: Check.count,
      chunksAfter: Check.count
    })
  )
})

/** What was saved under `key`; nothing when there is nothing, or nothing that can be read. */
export const load = (store: KeyValueStore, key: string): Effect.Effect<Saved | undefined> =>
  store.get(key).pipe(
    Effect.flatMap((text) =>
      Option.isNone(text)
        ? Effect.succeed(undefined)
        : Effect.try((): Saved | undefined => {
            const value: unknown = JSON.parse(text.value)
            const problem = check(value, "state")
            if (problem !== undefined) throw new Error(problem)
            return value as Saved
          })
    ),
    Effect.catchAll((error) =>
      Effect.as(
        Effect.logWarning("the saved state of the session cannot be read; a new one is opened", error),
        undefined
      )
    )
  )

/** Saves when there is something new. A store that fails is told of once, and the session goes on. */
export const saver = (store: KeyValueStore, key: string, current: () => Saved): Effect.Effect<void> => {
  let saved = ""
  let failed = false
  return Effect.suspend(() => {
    const text = JSON.stringify(current())
    if (text === saved) return Effect.void
    saved = text
    return Effect.catchAll(store.set(key, text), (error) => {
      if (failed) return Effect.void
      failed = true
      return Effect.logWarning(
        "the session's state cannot be saved; another process could not resume it",
        error
      )
    })
  })
}
