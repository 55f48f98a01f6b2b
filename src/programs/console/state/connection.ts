/**
 * The session of this page. The token is kept in the tab's storage and nowhere else.
 */
import { signal } from "@preact/signals"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as ArcpClient from "../../../layers/client/ArcpClient.js"
import * as DialerWebSocketGlobal from "../../../layers/transport/DialerWebSocketGlobal.js"
import * as Features from "../../../protocol/Features.js"
import { loginPlace, url } from "./places.js"
import { arrived, lost, phase } from "./presence.js"

/** The client, once there is a session; another one when a session was lost. */
export const client = signal<ArcpClient.ArcpClientService | undefined>(undefined)
/** Milliseconds there and back, newest last. */
export const lag = signal<ReadonlyArray<number>>([])

const tokenKey = "arcp-console-token"

const follow = (status: ArcpClient.Status): void => {
  if (status._tag === "Reconnecting") lost(status.reason)
  if (status._tag === "Connected") arrived(status.resumedAt)
}

/** Readings of the lag that are kept. */
const mostLag = 60

/** Sessions that this tab had before it was loaded anew: each may cancel what it has submitted, for as long as it is there. */
const formerKey = "arcp-console-former"
const mostFormer = 5
const former = (): ReadonlyArray<ArcpClient.ResumeState> => {
  try {
    const kept: unknown = JSON.parse(sessionStorage.getItem(formerKey) ?? "[]")
    return Array.isArray(kept) ? kept : []
  } catch {
    return []
  }
}
const remember = (state: ArcpClient.ResumeState): void =>
  sessionStorage.setItem(formerKey, JSON.stringify([state, ...former()].slice(0, mostFormer)))

/** Cancels as a session that this tab had before. */
const cancelAs = (given: string, resume: ArcpClient.ResumeState, jobId: string, reason: string) =>
  ArcpClient.make({ token: Redacted.make(given), name: "effect-arcp console", resume }).pipe(
    Effect.flatMap((made) =>
      Effect.ensuring(
        made.cancel(jobId, reason),
        Effect.flatMap(made.resumeState, (state) =>
          Effect.sync(() => {
            const others = former().filter(({ sessionId }) => sessionId !== state.sessionId)
            sessionStorage.setItem(formerKey, JSON.stringify([state, ...others]))
          })
        )
      )
    ),
    Effect.scoped,
    Effect.provide(DialerWebSocketGlobal.layer({ url, allowInsecure: true }))
  )

/** Cancels a job: as this session, or else as the one of this tab that has submitted it. */
export const cancelJob = (jobId: string): Promise<void> => {
  const made = client.peek()
  const given = token()
  if (made === undefined || given === undefined) return Promise.reject(new Error("there is no connection"))
  const reason = "cancelled in the console"
  return run(
    Effect.catchTag(made.cancel(jobId, reason), "PermissionDenied", (refused) =>
      former().reduce<Effect.Effect<void, ArcpClient.ClientError>>(
        (before, state) =>
          Effect.catchAll(before, () =>
            Effect.mapError(cancelAs(given, state, jobId, reason), () => refused)
          ),
        Effect.fail(refused)
      )
    )
  )
}

/** Whether somebody has been logged in since the page was loaded, of whom there is something in it. */
let hasBeenIn = false

const session = (token: string) =>
  Effect.gen(function* () {
    const made = yield* ArcpClient.make({
      token: Redacted.make(token),
      name: "effect-arcp console",
      features: [...Features.all, Features.describedAgents, Features.submittedInput, Features.principal]
    })
    sessionStorage.setItem(tokenKey, token)
    hasBeenIn = true
    client.value = made
    arrived(undefined)
    const leave = () => {
      remember(Effect.runSync(made.resumeState))
      Effect.runFork(made.close)
    }
    addEventListener("pagehide", leave)
    yield* Effect.addFinalizer(() => Effect.sync(() => removeEventListener("pagehide", leave)))
    yield* Effect.forkScoped(
      Effect.repeat(
        Effect.ignore(
          Effect.map(made.ping, (ms) => {
            lag.value = [...lag.value.slice(1 - mostLag), ms]
          })
        ),
        Schedule.spaced("5 seconds")
      )
    )
    // Ends when the session does, whose error is then the last status.
    let end: ArcpClient.ClientError | undefined
    yield* Stream.runForEach(made.status.changes, (status) =>
      Effect.sync(() => {
        follow(status)
        if (status._tag === "Closed") end = status.error
      })
    )
    if (end !== undefined) return yield* end
  }).pipe(Effect.scoped, Effect.provide(DialerWebSocketGlobal.layer({ url, allowInsecure: true })))

const refused = (error: ArcpClient.ClientError) =>
  error.code === "UNAUTHENTICATED" || error.code === "TOKEN_UNAVAILABLE" || error.code === "INVALID_REQUEST"

let running: Fiber.RuntimeFiber<unknown> | undefined

/** Opens a session with this token, and another one whenever it is lost, until the token is refused or `logout`. */
export const login = (token: string): void => {
  const before = running === undefined ? Effect.void : Fiber.interrupt(running)
  phase.value = { _tag: "Connecting" }
  const lives = Effect.suspend(() => session(token)).pipe(
    Effect.tapError((error) =>
      Effect.sync(() => {
        client.value = undefined
        if (!refused(error)) lost(error.message)
      })
    ),
    Effect.retry({ schedule: Schedule.spaced("2 seconds"), while: (error) => !refused(error) }),
    Effect.catchAll((error) =>
      Effect.sync(() => {
        sessionStorage.removeItem(tokenKey)
        phase.value = { _tag: "LoggedOut", message: error.message }
      })
    )
  )
  running = Effect.runFork(Effect.zipRight(before, lives))
}

/** Forgets the token, and the sessions that this tab had with it. */
const forget = (): void => {
  sessionStorage.removeItem(tokenKey)
  sessionStorage.removeItem(formerKey)
}

/** Closes the session and forgets the token. */
const close = (): void => {
  forget()
  const made = client.value
  if (made !== undefined) Effect.runFork(made.close)
  if (running !== undefined) Effect.runFork(Fiber.interrupt(running))
  running = undefined
  client.value = undefined
  phase.value = { _tag: "LoggedOut", message: "" }
}

/** The token of this tab, for requests beside the session. */
export const token = (): string | undefined => sessionStorage.getItem(tokenKey) ?? undefined

/** Logs out, and begins the page anew: nothing of who was here stays in it. */
export const logout = (): void => {
  close()
  location.reload()
}

/** Begins the page anew with another token. */
export const beginAnew = (token: string): void => {
  close()
  sessionStorage.setItem(tokenKey, token)
  location.reload()
}

/** Logs in with a token that somebody has given; after another login the page begins anew. */
export const loginByHand = (token: string): void => (hasBeenIn ? beginAnew(token) : login(token))

/** Returns the token for the code of a login link, which holds once; else rejects with why not. */
export const exchange = async (code: string): Promise<string> => {
  const response = await fetch(loginPlace, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ code })
  }).catch(() => {
    throw new Error("the runtime cannot be reached")
  })
  const answer = (await response.json().catch(() => ({}))) as Readonly<Record<string, unknown>>
  if (typeof answer["token"] === "string") return answer["token"]
  throw new Error(String(answer["message"] ?? "the login link was refused"))
}

/** Runs an effect; what it fails with is an error with a message, for people. */
export const run = async <A>(effect: Effect.Effect<A, ArcpClient.ClientError>): Promise<A> => {
  const exit = await Effect.runPromiseExit(effect)
  if (Exit.isSuccess(exit)) return exit.value
  throw exit.cause._tag === "Fail"
    ? exit.cause.error
    : new Error("something went wrong on this page", { cause: exit.cause })
}
