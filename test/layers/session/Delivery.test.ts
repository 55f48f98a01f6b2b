/** What waits for a peer is bounded in bytes (protocol 1 and 4.5); answers come all the same, and in order. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { Outbox } from "../../../src/layers/session/Outbox.js"
import { encode } from "../../../src/protocol/Codec.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { TurnShare } from "../../../src/services/runtime/TurnShare.js"
import { boot, Disk } from "../../support/Rig.js"
import { open } from "../../support/Wire.js"

const echo = Agent.handle(Agent.make("echo", { version: "1.0.0" }), (input) => Effect.succeed(input))
const forever = Agent.handle(Agent.make("forever", { version: "1.0.0" }), () => Effect.never)
const agents = [echo, forever]
const MiB = 1024 * 1024
const long = Array.from({ length: 200 }, (_, i) => `/${"p".repeat(500)}/${i}/**`)

type Opened = Effect.Effect.Success<ReturnType<typeof open>>

/** How many of the requests the runtime takes from a client that reads nothing. */
const takenUnread = (count: number, send: (index: number) => Effect.Effect<unknown>) =>
  Effect.gen(function* () {
    let sent = 0
    const sending = yield* Effect.fork(
      Effect.forEach(
        Array.from({ length: count }),
        (_, i) => Effect.tap(send(i), () => Effect.sync(() => sent++)),
        { discard: true }
      )
    )
    for (let before = -1, quiet = 0; quiet < 3; ) {
      yield* Effect.repeatN(eventLoop.next, 200)
      quiet = sent === before ? quiet + 1 : 0
      before = sent
    }
    return { sent, sending }
  })

describe("a submit that was refused", () => {
  const total = 2_000
  const chatty = Agent.handle(Agent.make("chatty", { version: "1.0.0" }), () =>
    Effect.gen(function* () {
      const job = yield* Job
      for (let i = 0; i < total; i++) yield* job.log("info", `${i}`)
    })
  )

  it.scoped(
    "and comes again ahead of the replay of its refusal gets that in its turn, once; else again",
    () =>
      Effect.gen(function* () {
        const disk = yield* Disk.make
        const { run } = yield* boot([chatty], { disk })
        yield* run(
          Effect.gen(function* () {
            const first = yield* open()
            yield* first.request("job.submit", { agent: "chatty", input: 1 })
            yield* first.expect("job.result")
            const submit = encode({
              id: "refused",
              type: "job.submit",
              session_id: first.sessionId,
              payload: { agent: "nobody", input: 1 }
            })
            yield* first.sendText(submit)
            const refusal = yield* first.expect("job.error")
            const resume = {
              session_id: first.sessionId,
              resume_token: first.welcome.resume_token,
              last_event_seq: 5
            }
            const again = yield* open({ resume })
            // It is decided while the replay waits for its reader.
            yield* again.sendText(submit)
            yield* Effect.repeatN(eventLoop.next, 200)
            const last = refusal.event_seq ?? 0
            yield* again.expect("job.error", ({ event_seq }) => event_seq === last)
            yield* again.request("session.ping", { nonce: "n" })
            yield* again.expect("session.pong")
            const numbers = again.seen.flatMap(({ event_seq }) => event_seq ?? [])
            assert.deepStrictEqual(
              numbers,
              Array.from({ length: last - 5 }, (_, i) => i + 6)
            )
            yield* again.sendText(submit)
            assert.deepStrictEqual(yield* again.expect("job.error"), refusal)
          })
        )
      })
  )
})

describe("a client that asks and does not read", () => {
  it.scoped("900 kB ping nonces: its frames are not read any more; once it reads, every pong comes", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot(agents, { disk })
      yield* run(
        Effect.gen(function* () {
          const session = yield* open()
          const nonce = "n".repeat(900_000)
          const { sent, sending } = yield* takenUnread(60, (i) =>
            session.request("session.ping", { nonce: `${i} ${nonce}` })
          )
          assert.isBelow(sent, 12)
          for (let i = 0; i < 60; i++) {
            const pong = yield* session.expect("session.pong")
            assert.strictEqual(Number.parseInt(pong.payload.ping_nonce, 10), i)
          }
          yield* Fiber.join(sending)
        })
      )
    })
  )

  it.scoped("subscribes to a job with a long lease: the same", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot(agents, { disk })
      yield* run(
        Effect.gen(function* () {
          const owner = yield* open()
          yield* owner.request("job.submit", {
            agent: "forever",
            input: {},
            lease_request: { "fs.read": long }
          })
          const { job_id } = yield* owner.expect("job.accepted")
          const watcher = yield* open()
          const { sent, sending } = yield* takenUnread(400, () =>
            watcher.request("job.subscribe", { job_id })
          )
          // An answer is 100 kB: one MiB waits, one is in the transport, and 256 requests are in its inbox.
          assert.isBelow(sent, 300)
          for (let i = 0; i < 400; i++) yield* watcher.expect("job.subscribed")
          yield* Fiber.join(sending)
        })
      )
    })
  )

  it.scoped("submits: the lane stops too", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot(agents, {
        disk,
        options: { maxJobsPerSession: 10_000, maxJobsPerPrincipal: 10_000 }
      })
      yield* run(
        Effect.gen(function* () {
          const session = yield* open()
          const submit = () =>
            session.request("job.submit", {
              agent: "forever",
              input: {},
              lease_request: { "fs.read": long }
            })
          const { sending } = yield* takenUnread(200, submit)
          const jobs = Effect.map(
            disk.store.jobs({ principals: "everyone", limit: 1_000 }),
            (found) => found.length
          )
          const decided = yield* jobs
          assert.isBelow(decided, 100)
          for (let i = 0; i < 200; i++) yield* session.expect("job.accepted")
          yield* Fiber.join(sending)
          assert.strictEqual(yield* jobs, 200)
        })
      )
    })
  )
})

describe("a client that asks for much at once", () => {
  it.scoped("begins each of its requests with its share of a turn", () => {
    let shares = 0
    const share = Effect.sync(() => {
      shares++
    })
    return Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot(agents, { disk })
      yield* run(
        Effect.gen(function* () {
          const session = yield* open()
          const before = shares
          const frames = Array.from({ length: 200 }, (_, i) =>
            JSON.stringify({
              arcp: "1.1",
              id: `list-${i}`,
              type: "session.list_jobs",
              session_id: session.sessionId,
              payload: {}
            })
          )
          yield* session.connection.send(frames)
          for (let i = 0; i < 200; i++) yield* session.expect("session.jobs")
          assert.isAtLeast(shares - before, 200)
        })
      )
    }).pipe(Effect.provideService(TurnShare, share))
  })
})

describe("Outbox", () => {
  it.effect("counts what is being sent until it is sent", () =>
    Effect.gen(function* () {
      const outbox = new Outbox(1_000)
      outbox.push("x".repeat(1_000))
      assert.isFalse(outbox.full)
      outbox.push("y")
      assert.isTrue(outbox.full)
      const room = yield* Effect.fork(outbox.room)
      const [batch] = outbox.take()
      assert.isTrue(outbox.full)
      assert.isFalse(outbox.idle)
      yield* Effect.yieldNow()
      assert.strictEqual((yield* Fiber.poll(room))._tag, "None")
      if (batch !== undefined) outbox.sent(batch)
      yield* Fiber.join(room)
      assert.isTrue(outbox.idle)
    })
  )

  it.effect("gives what waits in batches, in order, and lets everybody go when it is released", () =>
    Effect.gen(function* () {
      const outbox = new Outbox(MiB)
      const frames = Array.from({ length: 40 }, (_, i) => `${i} ${"z".repeat(100_000)}`)
      for (const frame of frames) outbox.push(frame)
      const batches = outbox.take()
      assert.isAbove(batches.length, 5)
      for (const batch of batches) assert.isAtMost(batch.bytes, 256 * 1024)
      assert.deepStrictEqual(
        batches.flatMap((batch) => batch.frames),
        frames
      )
      const room = yield* Effect.fork(outbox.room)
      yield* Effect.yieldNow()
      outbox.release()
      yield* Fiber.join(room)
    })
  )
})

describe("a listing", () => {
  const listed = (session: Opened, payload: Record<string, unknown>) =>
    Effect.gen(function* () {
      const id = yield* session.request("session.list_jobs", payload)
      return yield* session.expect("session.jobs", (frame) => frame.payload.request_id === id)
    })

  it.scoped("ends early when its frame would be over the bound, and goes on from there", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot(agents, {
        disk,
        options: { maxOutboundFrameBytes: 300_000, maxJobsPerSession: 1_000 }
      })
      yield* run(
        Effect.gen(function* () {
          const session = yield* open()
          const jobIds: Array<string> = []
          for (let i = 0; i < 9; i++) {
            yield* session.request("job.submit", {
              agent: "echo",
              input: i,
              lease_request: { "fs.read": long }
            })
            jobIds.push((yield* session.expect("job.result")).job_id as string)
          }
          const found: Array<string> = []
          let pages = 0
          for (let cursor: string | null = null; pages === 0 || cursor !== null; pages++) {
            const frame: Effect.Effect.Success<ReturnType<typeof listed>> = yield* listed(
              session,
              cursor === null ? {} : { cursor }
            )
            assert.isAtMost(Buffer.byteLength(JSON.stringify(frame)), 300_000)
            found.push(...frame.payload.jobs.map((job: { job_id: string }) => job.job_id))
            cursor = frame.payload.next_cursor
          }
          assert.deepStrictEqual(found, jobIds)
          assert.isAbove(pages, 3)
        })
      )
    })
  )

  it.scoped("has as many as were asked for, across the parts that it is read in", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot(agents, { disk, options: { maxJobsPerSession: 1_000 } })
      yield* run(
        Effect.gen(function* () {
          const session = yield* open()
          for (let i = 0; i < 130; i++) {
            yield* session.request("job.submit", { agent: "echo", input: i })
            yield* session.expect("job.result")
          }
          for (const [limit, expected] of [
            [63, 63],
            [64, 64],
            [65, 65],
            [128, 128],
            [129, 129],
            [130, 130],
            [131, 130]
          ] as const) {
            const { payload } = yield* listed(session, { limit })
            assert.lengthOf(payload.jobs, expected, `limit ${limit}`)
            assert.strictEqual(payload.next_cursor === null, limit >= 130, `cursor at ${limit}`)
          }
        })
      )
    })
  )
})
