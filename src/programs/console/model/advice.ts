/** What to do about an error, by its code (§12). */

const advice: Readonly<Record<string, string>> = {
  PERMISSION_DENIED:
    "The lease, or the policy of the runtime, does not allow it. Submit it again with a lease that does.",
  LEASE_SUBSET_VIOLATION:
    "A delegated job asked for more than its parent has. Give the parent more, or let the child ask for less.",
  JOB_NOT_FOUND:
    "There is no such job, or it is not yours to see. Finished jobs are dropped after the time that the runtime keeps them, or when somebody deletes them.",
  DUPLICATE_KEY:
    "The key was used for another submit in the last 24 hours. Take another key, or look at the job that has it.",
  AGENT_NOT_AVAILABLE: "The runtime has no such agent. The list in Submit shows those that it has.",
  AGENT_VERSION_NOT_AVAILABLE: "The agent is there, but not in this version. Take one of those in Submit.",
  CANCELLED: "Somebody has cancelled it. Submit it again if that was a mistake.",
  TIMEOUT: "It took longer than it was given. Submit it again with a longer time.",
  RESUME_WINDOW_EXPIRED: "The session is gone, the jobs are not: reload the page.",
  HEARTBEAT_LOST: "The connection was silent for too long. The page connects again by itself.",
  LEASE_EXPIRED: "The lease was over before the job was. Submit it again with a later end.",
  BUDGET_EXHAUSTED: "The budget is spent. Submit it again with a larger one.",
  INVALID_REQUEST:
    "Something in the request is not as it must be; the message says what. Change the input and submit it again.",
  UNAUTHENTICATED: "The token is not known, or is over. Log in again with another.",
  INTERNAL_ERROR:
    "The agent, or the runtime, has a fault. The log of the server has the whole of it: look there first. The same again may well end the same.",
  TRANSPORT_ERROR: "The runtime cannot be reached. Is it running?",
  REQUEST_TIMEOUT:
    "The runtime has not answered in time; whether it was done is not known. Look at the list of jobs."
}

const reasons: Readonly<Record<string, string>> = {
  runtime_restart:
    "The runtime was started anew while the job ran. Submit it again; a durable agent goes on by itself.",
  shutdown: "The runtime was shut down while the job ran. Submit it again when it is back.",
  storage: "The runtime could not write to its store. Look at its disk before submitting again.",
  result_gone:
    "The result is larger than what the runtime keeps of a job (maxRetainedBytes, in memory a sixteenth of it). Raise that, or serve from a database.",
  deleted: "It is being deleted.",
  already_answered: "Somebody was faster: the question has its answer.",
  expired: "The time for an answer is over.",
  unknown_input: "The job does not ask this, or no longer.",
  value: "The answer is not what the job asked for.",
  about: "What the question is about is not what is shown here. Reload the page and look again."
}

/** What was asked for and refused, where that is about something else than what a job may do. */
export type Doing = "cancel"

const refused: Readonly<Record<Doing, Readonly<Record<string, string>>>> = {
  cancel: {
    PERMISSION_DENIED:
      "While the session that submitted it exists, only that may cancel it: cancel where it was submitted. Others may when the runtime is served with --cancel principal (everybody of its principal) or --operator (whoever that names)."
  }
}

/** Returns what to do about an error, `undefined` when nobody knows. */
export const adviceFor = (code: string, reason?: string, doing?: Doing): string | undefined =>
  (doing !== undefined && Object.hasOwn(refused[doing], code) ? refused[doing][code] : undefined) ??
  (reason === undefined ? undefined : Object.hasOwn(reasons, reason) ? reasons[reason] : undefined) ??
  (Object.hasOwn(advice, code) ? advice[code] : undefined)
