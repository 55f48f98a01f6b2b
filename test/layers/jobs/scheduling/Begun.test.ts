/** Jobs that begin after they have waited. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/TestClock"
import { type Credential, Credentials } from "../../../../src/services/credentials/Credentials.js"
import { open } from "../../../support/Wire.js"
import { makeStore, pong, submit, typesOf } from "../support.js"
import { asked, endOf, find, gated, later, start } from "./waiting.js"

describe("a job that begins after it has waited", () => {
  it.scoped("has its credentials from then on, told after it runs; its budget is as it was asked for", () =>
    Effect.gen(function* () {
      const { agent, letGo } = gated("work", { concurrency: 1 })
      const minted: Array<string> = []
      const held = new Map<string, Credential>()
      const credentials = Layer.succeed(Credentials, {
        enabled: true,
        mint: ({ jobId }) =>
          Effect.sync(() => {
            minted.push(jobId)
            const credential = {
              id: "cred_1",
              scheme: "bearer" as const,
              value: Redacted.make(`secret of ${jobId}`),
              endpoint: "https://llm"
            }
            held.set(jobId, credential)
            return [credential]
          }),
        held: (jobId) => [held.get(jobId)].flatMap((credential) => credential ?? []),
        rotate: () => Effect.die("not used here"),
        release: (jobId) => Effect.sync(() => held.delete(jobId)),
        outstanding: Effect.succeed([]),
        revoke: () => Effect.void
      })
      const process = yield* start(yield* makeStore, [agent], {}, { credentials })
      yield* process.run(
        Effect.gen(function* () {
          const session = yield* open()
          const lease = { lease_request: { "cost.budget": ["USD:5.00"] } }
          const first = yield* submit(session, "work", 0, lease)
          assert.strictEqual(first.payload.credentials.length, 1)
          const waits = yield* submit(session, "work", 1, lease)
          assert.strictEqual(waits.payload.credentials, undefined)
          assert.deepStrictEqual(waits.payload.budget, { USD: 5 })
          assert.deepStrictEqual(minted, [first.job_id])
          yield* letGo(first.job_id)
          const told = yield* find(
            session,
            ({ job_id, payload }) => job_id === waits.job_id && payload.body?.phase === "credential_rotated"
          )
          assert.strictEqual(told.payload.body.value, `secret of ${waits.job_id}`)
          const events = session.seen.filter(
            ({ job_id, type }) => job_id === waits.job_id && type === "job.event"
          )
          assert.deepStrictEqual(
            events.map(({ payload }) => payload.body.phase),
            ["running", "credential_rotated"]
          )
          yield* letGo(waits.job_id)
          yield* endOf(session, waits.job_id)
          assert.strictEqual(held.size, 0)
        })
      )
    })
  )

  it.scoped(
    "is not begun before the store has taken that it runs, and not refused because that takes long",
    () =>
      Effect.gen(function* () {
        const { agent, began, begun, letGo } = gated("work")
        const store = yield* makeStore
        const process = yield* start(store, [agent])
        yield* process.run(
          Effect.gen(function* () {
            const session = yield* open()
            const job = yield* asked(session, "work", "later", later({ delay_sec: 1 }))
            yield* store.gate.close
            yield* TestClock.adjust("1 seconds")
            for (let i = 0; i < 20; i++) yield* pong(session)
            assert.deepStrictEqual(begun, [])
            store.failing = true
            yield* store.gate.open
            for (let i = 0; i < 20; i++) yield* pong(session)
            assert.deepStrictEqual(begun, [])
            store.failing = false
            yield* TestClock.adjust("10 seconds")
            yield* began(1)
            yield* letGo(job.job_id)
            assert.strictEqual((yield* endOf(session, job.job_id)).payload.result, "later")
            assert.deepStrictEqual(typesOf(session, job.job_id), ["job.accepted", "job.event", "job.result"])
          })
        )
      })
  )

  it.scoped("ends with the bye of its session where that cancels", () =>
    Effect.gen(function* () {
      const { agent, begun } = gated("work", { concurrency: 1 })
      const store = yield* makeStore
      const process = yield* start(store, [agent], { cancelOnBye: true, cancelGrace: 0 })
      yield* process.run(
        Effect.gen(function* () {
          const watcher = yield* open()
          const session = yield* open()
          yield* submit(session, "work", 0)
          const waits = yield* submit(session, "work", 1)
          const subscribe = yield* watcher.request(
            "job.subscribe",
            { job_id: waits.job_id },
            { job_id: waits.job_id }
          )
          const { payload } = yield* watcher.expect(
            "job.subscribed",
            ({ payload }) => payload.request_id === subscribe
          )
          assert.strictEqual(payload.current_status, "pending")
          yield* session.request("session.bye", {})
          assert.strictEqual((yield* endOf(watcher, waits.job_id)).payload.code, "CANCELLED")
          assert.deepStrictEqual(begun, ["0"])
        })
      )
    })
  )

  it.scoped("is none of those that end with their session: however many wait, none of them begins", () =>
    Effect.gen(function* () {
      const { agent, begun } = gated("work", { concurrency: 1 })
      const store = yield* makeStore
      const process = yield* start(store, [agent], { cancelOnBye: true, cancelGrace: 0 })
      yield* process.run(
        Effect.gen(function* () {
          const watcher = yield* open()
          const session = yield* open()
          const jobs: Array<string> = []
          for (let i = 0; i < 60; i++) jobs.push((yield* submit(session, "work", i)).job_id as string)
          yield* pong(watcher)
          yield* store.gate.close
          yield* session.request("session.bye", {})
          // The place of the one that runs comes free before the store has taken the other ends.
          for (let i = 0; i < 20; i++) yield* pong(watcher)
          yield* store.gate.release
          for (let i = 0; i < 20; i++) yield* pong(watcher)
          yield* store.gate.open
          const isOver = Effect.map(
            Effect.forEach(jobs, (jobId) => store.store.job(jobId)),
            (records) => records.every((record) => record?.endedAt !== undefined)
          )
          for (let i = 0; i < 500 && !(yield* isOver); i++) yield* pong(watcher)
          assert.isTrue(yield* isOver)
          assert.deepStrictEqual(begun, ["0"])
          for (const jobId of jobs) {
            const events = yield* store.store.events(jobId, 1, 100)
            assert.deepStrictEqual(
              events.map(({ type }) => type).filter((type) => type !== "job.event"),
              ["job.error"]
            )
          }
        })
      )
    })
  )
})
