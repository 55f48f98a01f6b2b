/** What is done to jobs: cancelled, answered and deleted. */
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Effect from "effect/Effect"
import { InvalidRequest } from "../../protocol/Errors.js"
import * as Vendor from "../../protocol/Vendor.js"
import type { Deletion } from "../../services/jobs/Jobs.js"
import { Answer, Cancel } from "./api.js"
import { body } from "./asked.js"
import {
  type Call,
  framedId,
  type Handler,
  type HandlerServices,
  idOf,
  ifReadable,
  jsonOnly,
  respond,
  shown
} from "./handling.js"

/** Cancels a job. */
export const cancel =
  (services: HandlerServices): Handler =>
  (call) =>
    Effect.gen(function* () {
      yield* jsonOnly
      const { reason } = (yield* body(services.maxBodyBytes, Object.keys(Cancel.fields))) ?? {}
      const jobId = yield* framedId(call)
      const line = yield* call.line
      yield* line.ask("job.cancel", reason === undefined ? {} : { reason }, { jobId })
      const entry = yield* ifReadable(Effect.map(services.jobs.entry(call.identity, jobId), shown))
      return respond(entry ?? { job_id: jobId }, 202)
    })

const removed =
  (
    { jobs, sessions }: HandlerServices,
    what: (call: Call) => Effect.Effect<Deletion, InvalidRequest>
  ): Handler =>
  (call) =>
    Effect.gen(function* () {
      yield* jsonOnly
      const deletion = yield* what(call)
      const gone = yield* jobs.delete(call.identity, deletion)
      const ended = "principal" in deletion ? yield* sessions.forget(deletion.principal) : 0
      return respond({ jobs: gone, sessions: ended })
    })

const cancelFirst = ({ query }: Call): Effect.Effect<boolean, InvalidRequest> => {
  const cancel = query.get("cancel")
  return cancel === null || cancel === "false" || cancel === "true"
    ? Effect.succeed(cancel === "true")
    : new InvalidRequest({ message: "cancel: true or false" })
}

/** Deletes a job. */
export const remove = (services: HandlerServices): Handler =>
  removed(services, (call) => Effect.map(cancelFirst(call), (cancel) => ({ jobId: idOf(call), cancel })))

/** Deletes the jobs and sessions of a principal. */
export const removeAll = (services: HandlerServices): Handler =>
  removed(services, (call) => {
    const principal = call.query.get("principal") ?? ""
    return principal === ""
      ? new InvalidRequest({ message: "principal: whose jobs and sessions are to be deleted" })
      : Effect.map(cancelFirst(call), (cancel) => ({ principal, cancel }))
  })

/** Answers what a job asks. */
export const answer =
  (services: HandlerServices): Handler =>
  (call) =>
    Effect.gen(function* () {
      const { about_sha256: about, value } =
        (yield* body(services.maxBodyBytes, Object.keys(Answer.fields))) ?? {}
      if (value === undefined) return yield* new InvalidRequest({ message: "value: the answer is missing" })
      const jobId = yield* framedId(call)
      const line = yield* call.line
      yield* line.ask(
        Vendor.jobInput,
        {
          input_id: call.params["inputId"],
          value,
          ...(about === undefined ? {} : { about_sha256: about })
        },
        { jobId }
      )
      return HttpServerResponse.empty({ status: 204 })
    })
