/** What has become of something that was asked for on a view that is not there any more: nobody is taken back to it. */
import { signal } from "@preact/signals"
import type { Doing } from "../model/advice.js"
import { announce } from "./announcing.js"

export interface Outcome {
  readonly says: string
  readonly jobId?: string
  /** Why it was not done. */
  readonly error?: unknown
  readonly doing?: Doing
}

const most = 5

/** The newest that nobody has dismissed. */
export const outcomes = signal<ReadonlyArray<Outcome>>([])

export const tell = (outcome: Outcome): void => {
  outcomes.value = [...outcomes.peek(), outcome].slice(-most)
  announce(outcome.says)
}

export const dismiss = (outcome: Outcome): void => {
  outcomes.value = outcomes.peek().filter((one) => one !== outcome)
}
