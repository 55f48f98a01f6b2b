/** What has become of submits whose forms are not there any more: nobody is taken away from where they are by then. */
import { signal } from "@preact/signals"
import { line } from "../model/text.js"
import { announce } from "./announcing.js"

export interface Outcome {
  readonly agent: string
  /** The job, or why there is none. */
  readonly of: { readonly jobId: string } | { readonly error: unknown }
}

const most = 5

/** The newest that nobody has looked at. */
export const outcomes = signal<ReadonlyArray<Outcome>>([])

export const tell = (outcome: Outcome): void => {
  outcomes.value = [...outcomes.peek(), outcome].slice(-most)
  announce(`the job for ${line(outcome.agent, 80)} is ${"jobId" in outcome.of ? "accepted" : "not accepted"}`)
}

export const dismiss = (outcome: Outcome): void => {
  outcomes.value = outcomes.peek().filter((one) => one !== outcome)
}
