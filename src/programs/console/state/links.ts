/**
 * Logins that come with the address. Anybody can make a link, and whoever follows one must not work as somebody else without
 * knowing: only the code of the server's own link logs in by itself, and only where nobody is logged in. What else a link
 * brings is asked about first.
 */
import { signal } from "@preact/signals"
import { beginAnew, exchange, login, token } from "./connection.js"
import { phase } from "./presence.js"

/** What a link has brought, about which somebody has to say whether they want it. */
export interface Brought {
  readonly kind: "token" | "code"
  readonly value: string
  /** Why it could not be used. */
  readonly problem?: string | undefined
}
export const brought = signal<Brought | undefined>(undefined)

/** Takes a login out of the address; neither the address bar nor the history keeps it. */
const taken = (): Brought | undefined => {
  if (location.hash.startsWith("#/")) return undefined
  const given = new URLSearchParams(location.hash.slice(1))
  const kind = (["code", "token"] as const).find((name) => given.has(name))
  if (kind === undefined) return undefined
  history.replaceState(null, "", `${location.pathname}#/jobs`)
  return { kind, value: given.get(kind) ?? "" }
}

const ask = (link: Brought | undefined): void => {
  if (link !== undefined && link.value !== token()) brought.value = link
}

/** Logs in with the code of a link, where nobody is logged in. */
const loginWith = (code: string): void => {
  phase.value = { _tag: "Connecting" }
  exchange(code).then(login, (error: Error) => {
    phase.value = { _tag: "LoggedOut", message: error.message }
  })
}

/** Takes what the address brings, or else what the tab has. */
export const begin = (): void => {
  // What the page has open is followed by a link without being loaded again.
  addEventListener("hashchange", () => ask(taken()))
  const kept = token()
  const link = taken()
  if (link?.kind === "code" && kept === undefined) return loginWith(link.value)
  ask(link)
  if (kept !== undefined) login(kept)
}

/** Logs in with what the link brought, in place of who is logged in. */
export const accept = async (): Promise<void> => {
  const link = brought.value
  if (link === undefined) return
  try {
    beginAnew(link.kind === "code" ? await exchange(link.value) : link.value)
  } catch (error) {
    brought.value = { ...link, problem: error instanceof Error ? error.message : String(error) }
  }
}

/** Leaves what the link brought. */
export const decline = (): void => {
  brought.value = undefined
}
