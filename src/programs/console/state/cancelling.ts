/** Jobs that are being cancelled from here. */
import { signal } from "@preact/signals"
import { isOver } from "../model/JobTable.js"
import { announce } from "./announcing.js"
import { cancelJob } from "./connection.js"
import { lookAgain, table } from "./jobs.js"
import type { Outcome } from "./outcomes.js"

/** Those that have not ended yet, as far as that is known: a job may take its time to stop. */
export const cancelling = signal<ReadonlySet<string>>(new Set())

const ended = (jobId: string): void => {
  if (cancelling.peek().has(jobId))
    cancelling.value = new Set([...cancelling.peek()].filter((id) => id !== jobId))
}
table.watch(({ job_id, status }) => isOver(status) && ended(job_id))
table.watchDrops(ended)

/** Cancels a job; rejects with why it is not cancelled. */
export const cancel = async (jobId: string): Promise<void> => {
  cancelling.value = new Set([...cancelling.peek(), jobId])
  try {
    await cancelJob(jobId)
  } catch (error) {
    ended(jobId)
    throw error
  }
  announce("the job is being cancelled", "status")
  lookAgain()
}

export const notCancelled = (jobId: string, error: unknown): Outcome => ({
  says: "This job is not cancelled:",
  jobId,
  error,
  doing: "cancel"
})
