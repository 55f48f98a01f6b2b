/** Whether the page is connected, and how that has gone: over the sessions that it had, since one may be lost. */
import { signal } from "@preact/signals"

export type Phase =
  | { readonly _tag: "LoggedOut"; readonly message: string }
  | { readonly _tag: "Connecting" }
  | { readonly _tag: "Connected" }
  | { readonly _tag: "Away"; readonly reason: string }

/** Where the session is. */
export const phase = signal<Phase>({ _tag: "LoggedOut", message: "" })
/** How often the connection was lost since the page was loaded. */
export const losses = signal(0)
/** How often there was a connection: each tells anew which agents there are. */
export const connections = signal(0)

/** A moment at which the connection was lost, or was there again. */
export interface Mark {
  readonly kind: "lost" | "back"
  readonly text: string
}

const watchers = new Set<(mark: Mark) => void>()

/** Tells of each such moment until the answer is called. */
export const onConnection = (watch: (mark: Mark) => void) => {
  watchers.add(watch)
  return () => watchers.delete(watch)
}

const tell = (kind: Mark["kind"], text: string) => {
  for (const watch of watchers) watch({ kind, text })
}

/** Whether it was lost, and has not come back: whoever waits for a first connection has lost none. */
let isMissed = false

/** Whether the page has dropped it itself, to have another one. */
let isDropped = false

/** Says that the page drops its connection: that is no loss, and nothing to note in a timeline. */
export const dropped = (): void => {
  isDropped = phase.value._tag === "Connected"
}

/** Says that there is no connection. Each try says so again; it was lost once. */
export const lost = (reason: string): void => {
  const wasThere = phase.value._tag === "Connected"
  phase.value = { _tag: "Away", reason }
  if (!wasThere || isDropped) return
  isMissed = true
  losses.value++
  tell("lost", `the connection was lost: ${reason}`)
}

/** Says that there is one: `resumedAt` is the event after which the session goes on, if it is not a new one. */
export const arrived = (resumedAt: number | undefined): void => {
  if (phase.value._tag !== "Connected") connections.value++
  phase.value = { _tag: "Connected" }
  isDropped = false
  if (!isMissed) return
  isMissed = false
  tell(
    "back",
    resumedAt === undefined ? "connected again" : `resumed after event ${resumedAt}; nothing is missing`
  )
}
