/** Handles on jobs: how they are made, what they cancel, and what is let go of with their scope. */
import * as Effect from "effect/Effect"
import * as Vendor from "../../protocol/Vendor.js"
import type { Outcome } from "../../services/agents/Agent.js"
import type { ArcpClientService, JobHandle } from "../../services/client/ArcpClient.js"
import { onLeave } from "../../services/runtime/onLeave.js"
import type { ClientSession } from "./ClientSession.js"
import type { About } from "./Current.js"
import { JobInbox } from "./JobInbox.js"
import type { SubmittedJobs } from "./Reattach.js"
import { resultAsFile } from "./resultAsFile.js"
import { violation } from "./violation.js"

/** What requests of a client work on. */
export interface ClientParts {
  readonly session: ClientSession
  readonly jobs: SubmittedJobs
}

/** Where the frames of a job go, and which job that is once it is known. */
export interface Destination {
  inbox: JobInbox
  about?: About | undefined
}

/** Nothing to encode or decode: whatever it is. */
export const untyped = {
  encodeInput: Effect.succeed<unknown>,
  decodeOutcome: ((outcome) => outcome as never) satisfies Outcome<unknown, never>["decodeOutcome"]
}

/** Asks for the end of a job (§7.4). */
export const cancel = ({ session }: ClientParts, jobId: string, reason?: string) =>
  Effect.asVoid(session.request("job.cancel", "job.cancelled", { reason }, { jobId, repeatable: false }))

/** Answers what a job asks (§12.2 of the protocol page). */
export const answer =
  ({ session }: ClientParts): ArcpClientService["answer"] =>
  (jobId, input_id, value, { about } = {}) =>
    Effect.asVoid(
      session.request(
        Vendor.jobInput,
        Vendor.jobInputAccepted,
        { input_id, value, about_sha256: about },
        { jobId }
      )
    )

/** The same for whoever has left, and waits for no answer: it is asked again after a resume, until there is one. */
export const tellCancel = (parts: ClientParts, jobId: string): void => {
  Effect.runFork(Effect.ignore(cancel(parts, jobId, "interrupted")))
}

/** Cancels, when there is something left to cancel, without waiting: also when the connection is just away. */
export const cancelling = (parts: ClientParts, inbox: JobInbox, jobId: string) =>
  Effect.sync(() => {
    if (!inbox.ended) tellCancel(parts, jobId)
  })

/** Lets go of a job's frames. */
export const release = ({ jobs, session }: ClientParts, inbox: JobInbox, jobId: string) =>
  Effect.sync(() => {
    jobs.leave(inbox)
    session.handles.release(jobId, inbox)
    session.stranger(jobId, inbox.ended)
    session.read()
  })

/** Returns a handle on the job whose frames an inbox takes. */
export const handle = <O, F>(
  parts: ClientParts,
  inbox: JobInbox,
  about: About,
  contract: Outcome<O, F>,
  onInterrupt: "cancel" | "detach" = "cancel"
): JobHandle<O, F> => {
  const outcome = Effect.map(inbox.result, ({ result }): unknown => result)
  return {
    jobId: about.job_id,
    agent: about.agent,
    traceId: about.trace_id,
    lease: about.lease,
    leaseConstraints: about.lease_constraints ?? {},
    events: inbox.events.items,
    of: (event) => event.from(inbox.events.items, violation),
    progress: inbox.current.progress,
    budget: inbox.current.budget,
    credentials: inbox.current.credentials,
    inputs: inbox.current.inputs,
    result: contract.decodeOutcome(
      onInterrupt === "cancel"
        ? Effect.onInterrupt(outcome, () => cancelling(parts, inbox, about.job_id))
        : outcome,
      violation
    ),
    createdAt: about.accepted_at ?? about[Vendor.createdAt],
    completedAt: Effect.sync(() => inbox.completedAt),
    chunks: inbox.chunks(),
    resultAsFile: (path) => resultAsFile(inbox, path),
    cancel: (reason) => cancel(parts, about.job_id, reason)
  }
}

/**
 * Makes a place for a job's frames, for as long as the scope; `leave` is run after it, once there is a job. Made before
 * the request is sent, so that an interruption at any point leaves nothing held.
 */
export const place = (parts: ClientParts, leave: (inbox: JobInbox, jobId: string) => Effect.Effect<void>) =>
  Effect.suspend(() => {
    const mine: Destination = { inbox: new JobInbox(parts.session) }
    const left = Effect.suspend(() => {
      const { about, inbox } = mine
      return about === undefined
        ? Effect.void
        : Effect.zipRight(release(parts, inbox, about.job_id), leave(inbox, about.job_id))
    })
    return Effect.as(onLeave(left), mine)
  })
