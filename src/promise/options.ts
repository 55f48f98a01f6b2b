/** How to connect, without Effect's types where they can be avoided, and what the client makes of it. */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as ScheduleDecision from "effect/ScheduleDecision"
import * as ScheduleInterval from "effect/ScheduleInterval"
import type * as ArcpClient from "../layers/client/ArcpClient.js"
import * as ClientState from "../layers/client/ClientState.js"
import * as DialerWebSocketGlobal from "../layers/transport/DialerWebSocketGlobal.js"
import { InvalidRequest } from "../protocol/Errors.js"
import type { Dialer } from "../services/transport/Transport.js"

/** A runtime that is reached by a WebSocket. */
export interface ByUrl extends DialerWebSocketGlobal.Options {
  /** Headers of the upgrade request, such as what a proxy asks for. Not in browsers. */
  readonly headers?: Readonly<Record<string, string>> | undefined
  /** PEM certificates to trust instead of the system's. Not in browsers. */
  readonly ca?: string | undefined
  readonly dialer?: undefined
}

/** Any other way to a runtime. */
export interface ByDialer {
  /**
   * A layer of the way there: `DialerStdio.layer({ command })` of `effect-arcp/node` starts the runtime as a child,
   * and a layer with `TransportMemory.layer()` has it in this process. It is built for this session and ends with it.
   */
  readonly dialer: Layer.Layer<Dialer, unknown>
  readonly url?: undefined
}

/** Where the session's place is kept: `localStorage` and `sessionStorage` are such, and so is anything alike. */
export interface Storage {
  readonly getItem: (key: string) => string | null | Promise<string | null>
  readonly setItem: (key: string, value: string) => void | Promise<void>
}

interface Common
  extends Pick<ArcpClient.Options, "name" | "version" | "features" | "held" | "requestTimeout" | "resume"> {
  /**
   * The bearer token, or a function that gives one and is asked for each connection, and again before a token ends that says
   * when (`exp` of a JWT). Without one the runtime has to know who connects by something else, such as a page's cookie.
   * What the function throws is the `cause` of a `TokenUnavailable`.
   */
  readonly token?: string | (() => string | PromiseLike<string>) | undefined
  /**
   * Milliseconds before a lost connection is made again, by the number of attempts before; `undefined` gives the
   * session up, and so does one that throws or is no number. Default: from 100 ms, doubling, jittered, at most 5 s.
   */
  readonly reconnectDelay?: ((attempts: number) => number | undefined) | undefined
  /** Acknowledge after so many events that were read (256), and at least so often (`"1 second"`). */
  readonly ack?:
    | { readonly events?: number | undefined; readonly interval?: Duration.DurationInput | undefined }
    | undefined
  /**
   * Keeps the session's place, under `key` (`arcp`), so that the next page or process goes on with it: `restored`
   * are its jobs, `attach` gives them. One page or process at a time: `onHeld` is called when another one that is alive
   * holds the session, as that of a tab that was duplicated; this one then has a session of its own. What is kept is
   * secret.
   */
  readonly state?:
    | {
        readonly storage: Storage
        readonly key?: string | undefined
        readonly onHeld?: (() => void) | undefined
      }
    | undefined
  /** Gives up connecting. Once connected, it does nothing. */
  readonly signal?: AbortSignal | undefined
}

/** How a session is opened: by the URL of a runtime, or by a dialer. */
export type ConnectOptions = Common & (ByUrl | ByDialer)

/** WebSockets of the kind that browsers bring along, or of the class that is given. */
export const dialGlobal = (options: ByUrl): Effect.Effect<Layer.Layer<Dialer>, InvalidRequest> =>
  options.headers !== undefined || options.ca !== undefined
    ? new InvalidRequest({ message: "headers and ca cannot be given to this kind of WebSocket" })
    : Effect.succeed(DialerWebSocketGlobal.layer(options))

/** Milliseconds until the next attempt; nothing where that cannot be said, with which the session is given up. */
const asked = (delay: (attempts: number) => unknown, attempts: number): number | undefined => {
  try {
    const ms = delay(attempts)
    return typeof ms === "number" && ms < Infinity ? Math.max(0, ms) : undefined
  } catch {
    return undefined
  }
}

const schedule = (delay: (attempts: number) => number | undefined): Schedule.Schedule<number> =>
  Schedule.makeWithState(0, (now, _, attempts) =>
    Effect.sync(() => {
      const ms = asked(delay, attempts)
      const decision =
        ms === undefined
          ? ScheduleDecision.done
          : ScheduleDecision.continueWith(ScheduleInterval.after(now + ms))
      return [attempts + 1, attempts, decision] as const
    })
  )

const stored = (storage: Storage): ClientState.StateStore => ({
  get: (key) =>
    Effect.map(
      Effect.tryPromise(async () => storage.getItem(key)),
      Option.fromNullable
    ),
  set: (key, value) => Effect.tryPromise(async () => storage.setItem(key, value))
})

/** Is it a tab's own, which a duplicate of the tab has a copy of? */
const isCopied = (storage: Storage): boolean => {
  try {
    return storage === globalThis.sessionStorage
  } catch {
    return false
  }
}

const kept = ({ key, onHeld, storage }: NonNullable<Common["state"]>): ClientState.ClientState =>
  ClientState.keyValueStore(stored(storage), key, {
    copied: isCopied(storage),
    onHeld: onHeld && Effect.ignoreLogged(Effect.try(onHeld))
  })

/** The client's own options. */
export const clientOptions = ({
  ack,
  features,
  held,
  name,
  reconnectDelay,
  requestTimeout,
  resume,
  state,
  token,
  version
}: Common): ArcpClient.Options => ({
  ack,
  features,
  held,
  name,
  requestTimeout,
  resume,
  version,
  token,
  reconnect: reconnectDelay && schedule(reconnectDelay),
  state: state && kept(state)
})
