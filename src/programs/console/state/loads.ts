/** How the agents of a server were loaded that loads them anew when they are saved, as `arcp dev` does. */

import { signal } from "@preact/signals"
import { numberIn, textIn } from "../model/values.js"
import { token } from "./connection.js"
import { placeOf } from "./places.js"
import { watching } from "./watching.js"

/** How often they were loaded, once that is known, and why those that were saved last are not. */
export const loads = signal<{ readonly times: number | undefined; readonly problem: string }>({
  times: undefined,
  problem: ""
})

const path = document.querySelector<HTMLMetaElement>('meta[name="arcp-loads"]')?.content ?? ""
const every = 2_000

const read = async (): Promise<void> => {
  const given = token()
  // Nothing is asked before the login: it would count as one that failed.
  if (given === undefined) return
  try {
    const response = await fetch(placeOf(path), { headers: { authorization: `Bearer ${given}` } })
    if (!response.ok) return
    const answer: unknown = await response.json()
    const [times, problem] = [numberIn(answer, "times") ?? 0, textIn(answer, "problem") ?? ""]
    if (times !== loads.value.times || problem !== loads.value.problem) loads.value = { times, problem }
  } catch {
    // That the server cannot be reached is seen elsewhere.
  }
}

/** Reads until the answer is called; nothing where a server has its agents for good. */
export const watch = path === "" ? () => () => {} : watching(read, every)
