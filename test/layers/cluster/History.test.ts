/** What sessions see that move between three nodes while jobs of all of them speak: everything once, in order, to the end. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as TestClock from "effect/TestClock"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { cluster, type Node } from "../../support/Nodes.js"
import { type Frame, open } from "../../support/Wire.js"

const settle = Effect.repeatN(eventLoop.next, 30)
const pass = Effect.zipRight(TestClock.adjust("150 millis"), settle)

/** A client that keeps what it has seen over all its transports. */
interface Client {
  wire: Effect.Effect.Success<ReturnType<typeof open>>
  readonly seen: Array<Frame>
}

/** Takes whatever has come; the transport may be closed, since the session has moved. */
const drain = ({ seen, wire }: Client) =>
  Effect.raceFirst(Effect.exit(Effect.forever(wire.next(() => false))), settle).pipe(
    Effect.map(() => {
      const last = seen.at(-1)?.event_seq ?? 0
      for (const frame of wire.seen) if ((frame.event_seq ?? 0) > last) seen.push(frame)
    })
  )

const history = (seed: number) =>
  Effect.gen(function* () {
    const { disk, start, wakes } = yield* cluster
    const words = yield* Effect.forEach([0, 1, 2], () => Queue.unbounded<number>())
    const speak = Agent.handle(
      Agent.make("speak", { version: "1.0.0" }),
      Effect.fn(function* (input) {
        const job = yield* Job
        const queue = words[Number(input)]
        for (;;) {
          const n = queue === undefined ? 0 : yield* Queue.take(queue)
          if (n === 0) return "over"
          yield* job.emit("x-vendor.test.n", { n })
        }
      })
    )
    const nodes: Array<Node> = []
    for (const name of ["a", "b", "c"]) nodes.push(yield* start(name, [speak]))
    const nodeOf = (i: number) => nodes[i] as Node
    const random = Random.make(seed)
    const upTo = (n: number) => random.nextIntBetween(0, n)

    const clients: Array<Client> = []
    for (const i of [0, 1, 2]) clients.push({ wire: yield* nodeOf(i).run(open()), seen: [] })
    const clientOf = (i: number) => clients[i] as Client
    const jobs: Array<string> = []
    for (const i of [0, 1, 2]) {
      const { wire } = clientOf(i)
      yield* wire.request("job.submit", { agent: "speak", input: i })
      jobs.push(String((yield* wire.expect("job.accepted")).job_id))
    }
    const said = [0, 0, 0]
    const subscribed = new Set<string>()
    for (let step = 0; step < 40; step++) {
      const [i, j, what] = [yield* upTo(3), yield* upTo(3), yield* upTo(6)]
      const client = clientOf(i)
      if (what < 3) {
        const n = (said[j] ?? 0) + 1
        said[j] = n
        yield* Queue.offer(words[j] as Queue.Queue<number>, n)
      } else if (what === 3) {
        yield* drain(client)
        const { resume_token } = client.wire.welcome
        const last_event_seq = client.seen.at(-1)?.event_seq ?? 0
        const resume = { session_id: client.wire.sessionId, resume_token, last_event_seq }
        client.wire = yield* nodeOf(j).run(open({ resume }))
      } else if (what === 4 && i !== j && !subscribed.has(`${i} ${j}`)) {
        subscribed.add(`${i} ${j}`)
        yield* client.wire.request("job.subscribe", { history: true }, { job_id: jobs[j] })
        yield* settle
      } else {
        wakes.lost = (yield* upTo(2)) === 0
        yield* pass
      }
    }
    for (const queue of words) yield* Queue.offer(queue, 0)
    yield* Effect.repeatN(pass, 16)
    for (const [i, client] of clients.entries()) {
      yield* drain(client)
      const seqs = client.seen.map(({ event_seq }) => event_seq)
      assert.deepStrictEqual(
        seqs,
        Array.from(seqs, (_, k) => k + 1),
        `seed ${seed}: numbers of client ${i}`
      )
      for (const [j, jobId] of jobs.entries()) {
        if (i !== j && !subscribed.has(`${i} ${j}`)) continue
        const told = client.seen
          .filter(({ job_id }) => job_id === jobId)
          .flatMap(
            ({ payload, type }): ReadonlyArray<number | string> =>
              type !== "job.event"
                ? ["end"]
                : payload.kind === "x-vendor.test.n"
                  ? [payload.body.n as number]
                  : []
          )
        const all = Array.from({ length: said[j] ?? 0 }, (_, k) => k + 1)
        assert.deepStrictEqual(told, [...all, "end"], `seed ${seed}: job ${j} as client ${i} saw it`)
      }
    }
    assert.deepStrictEqual([...(yield* disk.store.observersOf(jobs)).keys()], [], `seed ${seed}`)
  }).pipe(Effect.scoped)

const given = process.env["ARCP_SEEDS"]
const seeds = given === undefined ? [1, 2, 3] : Array.from({ length: Number(given) }, (_, i) => i + 1)

describe("sessions that move between nodes", () => {
  for (const seed of seeds)
    it.effect(`see every job once, in order and to its end, seed ${seed}`, () => history(seed))
})
