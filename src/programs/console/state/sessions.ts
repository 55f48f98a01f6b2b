/** Who is connected, as far as whoever looks may know it: asked for again while somebody looks. */

import { signal } from "@preact/signals"
import { field, numberIn, textIn } from "../model/values.js"
import { token } from "./connection.js"
import { placeOf } from "./places.js"
import { watching } from "./watching.js"

export interface Listed {
  readonly id: string
  readonly principal: string
  readonly connected: boolean
  readonly openedAt: number
  readonly seenAt: number
  readonly lag: number | undefined
}

/** The sessions that the runtime tells of, newest first, and how many there are. */
export const sessions = signal<
  { readonly listed: ReadonlyArray<Listed>; readonly total: number } | undefined
>(undefined)
/** Why they are not told. */
export const missing = signal("")

const every = 5_000

const listedOf = (of: unknown): Listed => ({
  id: textIn(of, "session_id") ?? "",
  principal: textIn(of, "principal") ?? "",
  connected: textIn(of, "state") === "connected",
  openedAt: Date.parse(textIn(of, "created_at") ?? ""),
  seenAt: Date.parse(textIn(of, "last_seen_at") ?? ""),
  lag: numberIn(of, "lag")
})

const read = async (): Promise<void> => {
  try {
    const response = await fetch(placeOf("/v1/sessions"), {
      headers: { authorization: `Bearer ${token() ?? ""}` }
    })
    if (!response.ok) {
      missing.value =
        response.status === 404
          ? "This server does not tell who is connected: that is part of its HTTP interface, /v1, which is not mounted here."
          : `Who is connected is not told: /v1/sessions answers ${response.status}.`
      return
    }
    const answer: unknown = await response.json()
    const listed = field(answer, "sessions")
    missing.value = ""
    sessions.value = {
      listed: Array.isArray(listed) ? listed.map(listedOf) : [],
      total: numberIn(answer, "total") ?? 0
    }
  } catch {
    missing.value = "Who is connected is not known at the moment: /v1/sessions cannot be reached."
  }
}

/** Reads until the answer is called. */
export const watch = watching(read, every)
