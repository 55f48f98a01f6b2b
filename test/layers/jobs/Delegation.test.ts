/** Delegated jobs as their parent has them (protocol 5.4, 7 and 8). */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Schema from "effect/Schema"
import * as Admission from "../../../src/layers/jobs/Admission.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import type { Lease } from "../../../src/services/lease/Lease.js"
import type * as RuntimeOptions from "../../../src/services/runtime/RuntimeOptions.js"
import { open } from "../../support/Wire.js"
import { agents, echo, forever, makeStore, type Session, serve, submit } from "./support.js"

const anyAgent = { lease_request: { "agent.delegate": ["*"] } }

const parentOf = (body: Effect.Effect<unknown, unknown, Job | Lease>) =>
  Agent.handle(Agent.make("parent", { version: "1.0.0" }), () =>
    body.pipe(
      Effect.orDie,
      Effect.map((result) => result ?? null)
    )
  )

/** Runs `test` on a session of a runtime whose agent `parent` does `body`. */
const on = <A, E>(
  body: Effect.Effect<unknown, unknown, Job | Lease>,
  test: (session: Session) => Effect.Effect<A, E>,
  options: RuntimeOptions.Input = {}
) =>
  Effect.gen(function* () {
    const store = yield* makeStore
    return yield* Effect.flatMap(open(), test).pipe(
      Effect.provide(serve(store, [...agents, parentOf(body)], options))
    )
  })

describe("a delegated job", () => {
  it.scoped("that its parent cancels has ended when that returns, however long it takes", () =>
    Effect.gen(function* () {
      const release = yield* Deferred.make<void>()
      const stopping = yield* Deferred.make<void>()
      const started = yield* Deferred.make<void>()
      const slow = Agent.handle(Agent.make("slow", { version: "1.0.0" }), () =>
        Effect.onInterrupt(Effect.zipRight(Deferred.succeed(started, undefined), Effect.never), () =>
          Effect.zipRight(Deferred.succeed(stopping, undefined), Deferred.await(release))
        )
      )
      const parent = parentOf(
        Effect.gen(function* () {
          const job = yield* Job
          const child = yield* job.delegate("slow", {})
          yield* Deferred.await(started)
          yield* child.cancel
          yield* job.log("info", "cancelled")
          return Either.isLeft(yield* Effect.either(child.await))
        })
      )
      const store = yield* makeStore
      yield* Effect.gen(function* () {
        const session = yield* open()
        const { job_id } = yield* submit(session, "parent", {}, anyAgent)
        yield* Deferred.await(stopping)
        yield* session.request("session.ping", { nonce: "n" })
        yield* session.expect("session.pong")
        yield* Deferred.succeed(release, undefined)
        const result = yield* session.expect("job.result")
        assert.isTrue(result.payload.result)
        const order = session.seen.flatMap(({ type, job_id: of, payload }) =>
          type === "job.error" && of !== job_id
            ? [payload.code]
            : payload.body?.message === "cancelled"
              ? ["told"]
              : []
        )
        assert.deepStrictEqual(order, ["CANCELLED", "told"])
      }).pipe(Effect.provide(serve(store, [slow, parent])))
    })
  )

  it.scoped("has its parent's expiry when it names none, may have the very same, and no later one", () => {
    const at = (second: number) => `1970-01-01T00:${String(second).padStart(2, "0")}:00Z`
    const delegated = (expires_at?: string) =>
      Effect.gen(function* () {
        const job = yield* Job
        const child = yield* Effect.either(
          job.delegate("echo", 1, expires_at === undefined ? {} : { constraints: { expires_at } })
        )
        return Either.isLeft(child) ? child.left : yield* child.right.await
      })
    return on(
      Effect.gen(function* () {
        const found: Array<unknown> = []
        for (const expiry of [undefined, at(10), at(9)]) found.push(yield* delegated(expiry))
        const later = yield* delegated(at(11))
        return [...found, String((later as { readonly _tag?: string })._tag)]
      }),
      (session) =>
        Effect.gen(function* () {
          const { job_id } = yield* submit(
            session,
            "parent",
            {},
            { ...anyAgent, lease_constraints: { expires_at: at(10) } }
          )
          const end = yield* session.expect("job.result", (frame) => frame.job_id === job_id)
          assert.deepStrictEqual(end.payload.result, [1, 1, 1, "LeaseSubsetViolation"])
          const children = session.seen.filter(
            ({ type, payload }) => type === "job.accepted" && payload.parent_job_id === job_id
          )
          assert.deepStrictEqual(
            children.map(({ payload }) => payload.lease_constraints.expires_at),
            [at(10), at(10), at(9)]
          )
        })
    )
  })

  it.scoped("counts for its parent until it has ended, and no longer", () =>
    on(
      Effect.gen(function* () {
        const job = yield* Job
        const some = () => Effect.either(job.delegate("forever", {}))
        const one = yield* some()
        const two = yield* some()
        const three = yield* some()
        if (Either.isRight(one)) yield* one.right.cancel
        const four = yield* some()
        return [one, two, three, four].map((each) =>
          Either.isRight(each) ? "taken" : "details" in each.left ? each.left.details : each.left
        )
      }),
      (session) =>
        Effect.gen(function* () {
          yield* submit(session, "parent", {}, anyAgent)
          const { payload } = yield* session.expect("job.result")
          assert.deepStrictEqual(payload.result, ["taken", "taken", { limit: "children_per_job" }, "taken"])
        }),
      { maxChildrenPerJob: 2 }
    )
  )
})

describe("the depth of delegation", () => {
  it.scoped("is as many jobs above another as the option says", () => {
    const nest: Agent.Registered = Agent.handle(Agent.make("nest", { version: "1.0.0" }), () =>
      Effect.gen(function* () {
        const job = yield* Job
        const child = yield* Effect.either(
          job.delegate("nest", {}, { lease: { "agent.delegate": ["nest"] } })
        )
        if (Either.isLeft(child)) return 0
        return Number(yield* Effect.orDie(child.right.await)) + 1
      })
    )
    return Effect.gen(function* () {
      const store = yield* makeStore
      yield* Effect.gen(function* () {
        const session = yield* open()
        const { job_id } = yield* submit(
          session,
          "nest",
          {},
          { lease_request: { "agent.delegate": ["nest"] } }
        )
        const end = yield* session.expect("job.result", (frame) => frame.job_id === job_id)
        assert.strictEqual(end.payload.result, 3)
      }).pipe(Effect.provide(serve(store, [nest, echo, forever], { maxDelegationDepth: 3 })))
    })
  })
})

describe("a handler that is interrupted while it delegates", () => {
  it.scoped("ends, and leaves no child behind, wherever on the way that happens", () =>
    Effect.gen(function* () {
      let checked = Deferred.unsafeMake<void>(FiberId.none)
      const admission = Admission.layer((_, { parentJobId }) =>
        parentJobId === undefined ? Effect.void : Effect.asVoid(Deferred.succeed(checked, undefined))
      )
      const parent = Agent.handle(Agent.make("parent", { version: "1.0.0", input: Schema.Number }), (steps) =>
        Effect.gen(function* () {
          const job = yield* Job
          checked = yield* Deferred.make<void>()
          // Any operation may be the last of a fiber's share, after which others go on; of fewer than ten there is no progress.
          const delegating = yield* Effect.fork(Effect.withMaxOpsBeforeYield(job.delegate("forever", {}), 10))
          yield* Deferred.await(checked)
          yield* Effect.repeatN(Effect.yieldNow(), steps)
          yield* Fiber.interrupt(delegating)
          return null
        }).pipe(Effect.orDie)
      )
      yield* Effect.gen(function* () {
        const session = yield* open()
        for (let steps = 0; steps < 60; steps++) {
          const { job_id } = yield* submit(session, "parent", steps, anyAgent)
          const end = yield* session.next(
            ({ job_id: of, type }) => of === job_id && /^job.(result|error)$/.test(type)
          )
          assert.strictEqual(end.type, "job.result", JSON.stringify(end))
        }
        // What was given back can be had again.
        yield* submit(session, "parent", 0, anyAgent)
        yield* session.expect("job.result")
      }).pipe(
        Effect.provide(
          serve(yield* makeStore, [...agents, parent], { maxJobsPerPrincipal: 2 }, { admission })
        )
      )
    })
  )
})
