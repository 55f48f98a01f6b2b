/** The nodes of the cluster that the runtime is one of, as far as whoever looks may know of them. */
import { signal } from "@preact/signals"
import { field, numberIn, textIn } from "../model/values.js"
import { token } from "./connection.js"
import { placeOf } from "./places.js"
import { watching } from "./watching.js"

export interface ListedNode {
  readonly name: string
  readonly isSelf: boolean
  readonly isAlive: boolean
  readonly address: string
  readonly version: string
  readonly startedAt: number
  readonly silentFor: number
  readonly jobs: number
  readonly sessions: number
}

/** The nodes; none of a runtime that is alone, or that does not tell of them. */
export const nodes = signal<ReadonlyArray<ListedNode>>([])
/** Why they are not told at the moment. */
export const missing = signal("")

const every = 5_000

const listedOf = (of: unknown): ListedNode => ({
  name: textIn(of, "name") ?? "",
  isSelf: field(of, "self") === true,
  isAlive: textIn(of, "state") === "alive",
  address: textIn(of, "address") ?? "",
  version: textIn(of, "version") ?? "",
  startedAt: Date.parse(textIn(of, "started_at") ?? ""),
  silentFor: numberIn(of, "silent_ms") ?? 0,
  jobs: numberIn(of, "jobs") ?? 0,
  sessions: numberIn(of, "sessions") ?? 0
})

/** Whether it is known that there is nothing to ask for: an answer that will be the same. */
let isOver = false

const read = async (): Promise<void> => {
  if (isOver) return
  try {
    const response = await fetch(placeOf("/v1/nodes"), {
      headers: { authorization: `Bearer ${token() ?? ""}` }
    })
    // Somebody else may do so, and a server without the route, or its policy, stays as it is.
    if (response.status === 403 || response.status === 404) {
      isOver = true
      nodes.value = []
    }
    missing.value =
      response.ok || isOver
        ? ""
        : `The nodes are not told at the moment: /v1/nodes answers ${response.status}.`
    if (!response.ok) return
    const answer: unknown = await response.json()
    const listed = field(answer, "nodes")
    const all = Array.isArray(listed) ? listed.map(listedOf) : []
    isOver = all.length === 0
    nodes.value = all
  } catch {
    missing.value = "The nodes are not known at the moment: /v1/nodes cannot be reached."
  }
}

/** Reads until the answer is called. */
export const watch = (): (() => void) => {
  isOver = false
  return watching(read, every)()
}
