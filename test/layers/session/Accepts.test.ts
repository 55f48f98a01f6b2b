/** `job.accepted` made again, protocol 4.3: right before the first event of a job of the session's own. */
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Policy from "../../../src/layers/auth/Policy.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { boot, Disk } from "../../support/Rig.js"
import { type Frame, open } from "../../support/Wire.js"

const echo = Agent.handle(Agent.make("echo", { version: "1.0.0" }), (input) => Effect.succeed(input))
const parent = Agent.handle(Agent.make("parent", { version: "1.0.0" }), () =>
  Effect.gen(function* () {
    const job = yield* Job
    const child = yield* job.delegate("echo", "child's")
    return yield* child.await
  })
)
const agents = [echo, parent]
const lease_request = { "agent.delegate": ["*"] }

type Opened = Effect.Effect.Success<ReturnType<typeof open>>

const from = (session: Opened, last_event_seq: number) => ({
  resume: { session_id: session.sessionId, resume_token: session.welcome.resume_token, last_event_seq }
})

/** What a session got, shortened: accepts with their request or delegation, events with their number. */
const story = (frames: ReadonlyArray<Frame>) =>
  frames
    .filter(({ type }) => type.startsWith("job."))
    .map(({ type, payload, event_seq, job_id }) =>
      type === "job.accepted" ? `accepted ${payload.request_id ?? "-"} ${job_id}` : `${event_seq} ${job_id}`
    )

const run = (session: Opened, agent: string) =>
  Effect.gen(function* () {
    const id = yield* session.request("job.submit", { agent, input: {}, lease_request })
    const accepted = yield* session.expect("job.accepted", (frame) => frame.payload.request_id === id)
    yield* session.expect("job.result", (frame) => frame.job_id === accepted.job_id)
    return { id, jobId: accepted.job_id as string }
  })

const resumed = (session: Opened, after: number, end: string) =>
  Effect.gen(function* () {
    const again = yield* open(from(session, after))
    yield* again.expect("job.result", (frame) => frame.job_id === end)
    return again
  })

describe("job.accepted", () => {
  it.scopedLive(
    "of a delegation that was being decided while its parent was taken over is the new owner's",
    () =>
      Effect.gen(function* () {
        const disk = yield* Disk.make
        const [asked, gate] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
        // A welcome lists the agents, and asks too.
        let greeted = false
        const policy = Layer.map(Policy.layerSamePrincipal, (context) => {
          const same = Context.get(context, Policy.Policy)
          const mayUseAgent: typeof same.mayUseAgent = (identity, agent) =>
            !greeted || agent === "parent"
              ? same.mayUseAgent(identity, agent)
              : Deferred.succeed(asked, undefined).pipe(
                  Effect.zipRight(Deferred.await(gate)),
                  Effect.zipRight(same.mayUseAgent(identity, agent))
                )
          return Context.make(Policy.Policy, { ...same, mayUseAgent })
        })
        const runtime = yield* boot(agents, { disk, policy, options: { resumeWindow: "100 millis" } })
        yield* runtime.run(
          Effect.gen(function* () {
            const submit = { agent: "parent", input: {}, lease_request, idempotency_key: "once" }
            const first = yield* open()
            greeted = true
            yield* first.request("job.submit", submit)
            yield* Deferred.await(asked)
            greeted = false
            yield* first.connection.close(1000, "")
            yield* disk.store
              .session(first.sessionId)
              .pipe(Effect.delay("20 millis"), Effect.repeat({ until: (stored) => stored === undefined }))
            const second = yield* open()
            yield* second.request("job.submit", submit)
            const { job_id } = yield* second.expect("job.accepted")
            yield* disk.store
              .job(job_id as string)
              .pipe(
                Effect.delay("20 millis"),
                Effect.repeat({ until: (stored) => stored?.sessionId === second.sessionId })
              )
            yield* Deferred.succeed(gate, undefined)
            const child = yield* second.expect("job.accepted")
            assert.strictEqual(child.payload.parent_job_id, job_id)
            yield* second.expect("job.event", (frame) => frame.job_id === child.job_id)
            yield* second.expect("job.result", (frame) => frame.job_id === child.job_id)
            yield* second.expect("job.result", (frame) => frame.job_id === job_id)
          })
        )
      })
  )

  it.scoped("comes once per transport, before the job's first event, and again on the next", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run: inRuntime } = yield* boot(agents, { disk })
      yield* inRuntime(
        Effect.gen(function* () {
          const first = yield* open()
          const a = yield* run(first, "echo")
          const b = yield* run(first, "echo")
          const all = [
            `accepted ${a.id} ${a.jobId}`,
            `1 ${a.jobId}`,
            `2 ${a.jobId}`,
            `accepted ${b.id} ${b.jobId}`,
            `3 ${b.jobId}`,
            `4 ${b.jobId}`
          ]
          assert.deepStrictEqual(story(first.seen), all)
          const second = yield* resumed(first, 0, b.jobId)
          assert.deepStrictEqual(story(second.seen), all)
          // After its first event there is none; exactly at it there is.
          assert.deepStrictEqual(story((yield* resumed(second, 1, b.jobId)).seen), all.slice(2))
        })
      )
    })
  )

  it.scoped("comes exactly at the resume point, and not one event later", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run: inRuntime } = yield* boot(agents, { disk })
      yield* inRuntime(
        Effect.gen(function* () {
          const first = yield* open()
          const a = yield* run(first, "echo")
          const b = yield* run(first, "echo")
          const second = yield* resumed(first, 2, b.jobId)
          assert.deepStrictEqual(story(second.seen), [
            `accepted ${b.id} ${b.jobId}`,
            `3 ${b.jobId}`,
            `4 ${b.jobId}`
          ])
          assert.deepStrictEqual(story((yield* resumed(second, 3, b.jobId)).seen), [`4 ${b.jobId}`])
          assert.notStrictEqual(a.jobId, b.jobId)
        })
      )
    })
  )

  it.scoped(
    "of a delegated job comes before its first event: live, exactly at the resume point, and after it not",
    () =>
      Effect.gen(function* () {
        const disk = yield* Disk.make
        const { run: inRuntime } = yield* boot(agents, { disk })
        yield* inRuntime(
          Effect.gen(function* () {
            const first = yield* open()
            const { jobId } = yield* run(first, "parent")
            const accepted = first.seen.find(
              (frame) => frame.type === "job.accepted" && frame.job_id !== jobId
            )
            assert.strictEqual(accepted?.payload.parent_job_id, jobId)
            assert.isString(accepted?.payload.delegate_id)
            assert.isUndefined(accepted?.payload.request_id)
            const child = accepted?.job_id as string
            const told = story(first.seen)
            const at = told.indexOf(`accepted - ${child}`)
            const start = Number.parseInt(told[at + 1] as string, 10)
            assert.strictEqual(told[at + 1], `${start} ${child}`)
            assert.strictEqual(told.filter((line) => line === `accepted - ${child}`).length, 1)
            const second = yield* resumed(first, start - 1, jobId)
            assert.deepStrictEqual(story(second.seen), told.slice(at))
            assert.deepStrictEqual(story((yield* resumed(second, start, jobId)).seen), told.slice(at + 2))
          })
        )
      })
  )

  it.scoped("is made again after a restart, with the original request_id", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { first, told, jobId } = yield* Effect.gen(function* () {
        const { run: inRuntime, kill } = yield* boot(agents, { disk })
        const found = yield* inRuntime(
          Effect.gen(function* () {
            const first = yield* open()
            const { jobId } = yield* run(first, "parent")
            return { first, told: story(first.seen), jobId }
          })
        )
        yield* kill
        return found
      }).pipe(Effect.scoped)
      const { run: inRuntime } = yield* boot(agents, { disk })
      const again = yield* inRuntime(resumed(first, 0, jobId))
      assert.deepStrictEqual(story(again.seen), told)
    })
  )

  it.scoped("is not made up for a submit that was refused", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run: inRuntime } = yield* boot(agents, { disk })
      yield* inRuntime(
        Effect.gen(function* () {
          const first = yield* open()
          yield* first.request("job.submit", { agent: "nobody", input: {} })
          yield* first.expect("job.error")
          const second = yield* open(from(first, 0))
          yield* second.expect("job.error")
          assert.deepStrictEqual(
            second.seen.map(({ type }) => type),
            ["session.welcome", "job.error"]
          )
        })
      )
    })
  )
})
