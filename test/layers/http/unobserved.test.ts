/** What the sessions behind HTTP are sent: answers and refusals, and no event of the jobs that they submit. */
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { open } from "../../../src/layers/http/line.js"
import { served } from "./served.js"

it.scopedLive("a session of the gateway gets answers and refusals, and no events of its jobs", () =>
  Effect.gen(function* () {
    const { ask, sessions } = yield* served()
    const sent: Array<{ readonly type: string }> = []
    const watched: typeof sessions = {
      ...sessions,
      serve: (connection) =>
        sessions.serve({
          ...connection,
          send: (frames) => {
            sent.push(...frames.map((frame) => JSON.parse(frame)))
            return connection.send(frames)
          }
        })
    }
    const visitor = { remote: "127.0.0.1:1", client: "127.0.0.1", evidence: {} }
    const line = yield* open(watched, { visitor, token: Redacted.make("a") })
    const ended = (id: unknown) => Effect.promise(async () => (await ask(`/v1/jobs/${id}/events`)).text())
    const { job_id: job } = yield* line.ask("job.submit", { agent: "emit", input: { count: 200 } })
    expect(yield* ended(job)).toContain("event: job.result")
    const { job_id: parent } = yield* line.ask("job.submit", {
      agent: "delegate",
      input: { agent: "echo", input: 1 },
      lease_request: { "agent.delegate": ["**"] }
    })
    expect(yield* ended(parent)).toContain('"kind":"delegate"')
    const refused = yield* Effect.flip(line.ask("job.submit", { agent: "nobody", input: null }))
    expect(refused).toMatchObject({ _tag: "AgentNotAvailable" })
    // The answer to what is asked last comes after whatever else was to be sent.
    yield* line.ask("session.list_jobs", {})
    const count = (type: string) => sent.filter((frame) => frame.type === type).length
    expect([count("job.event"), count("job.result"), count("job.error")]).toEqual([0, 0, 1])

    // Nor of one that the same request again is answered with, of whichever session that is.
    const keyed = { agent: "emit", input: { count: 200, delayMs: 1 }, idempotency_key: "k" }
    const { job_id: running } = yield* line.ask("job.submit", keyed)
    expect(yield* line.ask("job.submit", keyed)).toMatchObject({ job_id: running })
    const other = yield* Effect.scoped(
      Effect.flatMap(open(sessions, { visitor, token: Redacted.make("a") }), (before) =>
        before.ask("job.submit", { ...keyed, idempotency_key: "left" })
      )
    )
    expect(yield* line.ask("job.submit", { ...keyed, idempotency_key: "left" })).toMatchObject({
      job_id: other["job_id"]
    })
    for (const id of [running, other["job_id"]]) expect(yield* ended(id)).toContain("event: job.result")
    expect(yield* line.ask("job.submit", keyed)).toMatchObject({ job_id: running })
    yield* line.ask("session.list_jobs", {})
    expect([count("job.event"), count("job.result"), count("job.error")]).toEqual([0, 0, 1])
  })
)
