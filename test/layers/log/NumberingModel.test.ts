/**
 * The numbering of sessions against a model of it: sessions that come, go, resume, subscribe and acknowledge, jobs that speak, delegate
 * and end, and processes that die, in an order that a seed decides. Whoever observes a job is to get all of it that its
 * session negotiated, once, in order and to its one end, and the numbers of a session have no gap.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import { all } from "../../../src/protocol/Features.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { boot, Disk } from "../../support/Rig.js"
import { type Frame, open } from "../../support/Wire.js"

const settle = Effect.repeatN(eventLoop.next, 30)

/** What a job is told to do. */
type Command =
  | { readonly say: number; readonly kind: "vendor" | "progress" }
  | { readonly delegate: number }
  | "return"
  | "fail"

/** What a job is told, from the beginning: one that outlives its process goes through it again. */
interface Script {
  readonly commands: Array<Command>
  /** Done when there is one more. */
  more: Deferred.Deferred<void>
}

const commandAt = (script: Script | undefined, i: number): Effect.Effect<Command> =>
  Effect.suspend(() => {
    if (script === undefined) return Effect.succeed("return")
    const command = script.commands[i]
    return command === undefined
      ? Effect.zipRight(Deferred.await(script.more), commandAt(script, i))
      : Effect.succeed(command)
  })

const delegates = { "agent.delegate": ["speaks", "lasts"] }

type Wire = Effect.Effect.Success<ReturnType<typeof open>>

/** A session as its client knows it. */
interface Client {
  readonly features: ReadonlyArray<string>
  wire: Wire
  isAttached: boolean
  /** Every number that it was sent, once. */
  readonly seen: Array<Frame>
  /** What it has to be told of a job: from what was said then on. */
  readonly observes: Map<string, { readonly after: number }>
}

/** A job as the model knows it. */
interface Told {
  readonly key: number
  readonly jobId: string
  readonly owner: Client
  /** It outlives its process. */
  readonly lasts: boolean
  /** In the order of the calls: numbers that were said, `child` for one that it has delegated. */
  readonly said: Array<{ readonly word: number | "child"; readonly isProgress: boolean }>
  isOver: boolean
}

/** What a frame says of its job, in the words of the model. */
const wordOf = ({ payload, type }: Frame): number | string | undefined => {
  if (type !== "job.event") return "end"
  switch (payload.kind) {
    case "x-vendor.test.n":
      return payload.body.n as number
    case "progress":
      return payload.body.current as number
    case "delegate":
      return "child"
    default:
      return undefined
  }
}

/** Reads what has come over a client's transport. What was sent before is the same frame, to the letter. */
const drain = (client: Client, seed: number) =>
  Effect.raceFirst(Effect.exit(Effect.forever(client.wire.next(() => false))), settle).pipe(
    Effect.map(() => {
      for (const frame of client.wire.seen.splice(0)) {
        const n = frame.event_seq
        if (n === undefined) continue
        const known = client.seen[n - 1]
        if (known !== undefined) assert.deepStrictEqual(frame, known, `seed ${seed}: number ${n} again`)
        else {
          assert.strictEqual(n, client.seen.length + 1, `seed ${seed}: a gap`)
          client.seen.push(frame)
        }
      }
    })
  )

/** A run of so many steps, over a store that outlives its processes. */
const model = (seed: number, steps: number): Effect.Effect<void, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const random = Random.make(seed)
    const below = (n: number) => random.nextIntBetween(0, n)
    const pick = <A>(of: ReadonlyArray<A>) => Effect.map(below(of.length), (i) => of[i])

    const scripts = new Map<number, Script>()
    /** The job with each key, once it has begun. */
    const ids = new Map<number, string>()
    const speakAs = (name: string, durable: boolean) =>
      Agent.handle(Agent.make(name, { version: "1.0.0", durable }), (input) =>
        Effect.gen(function* () {
          const job = yield* Job
          ids.set(Number(input), job.jobId)
          for (let i = 0; ; i++) {
            const command = yield* commandAt(scripts.get(Number(input)), i)
            if (command === "return") return "over"
            if (command === "fail") return yield* Effect.dieMessage("as it was told")
            if ("delegate" in command)
              yield* job.delegate(name, command.delegate, { lease: delegates, key: `${i}` })
            else if (command.kind === "vendor") yield* job.emit("x-vendor.test.n", { n: command.say })
            else yield* job.progress({ current: command.say })
          }
        })
      )
    const disk = yield* Disk.make
    const start = boot([speakAs("speaks", false), speakAs("lasts", true)], {
      disk,
      options: { heartbeatInterval: "1 hour", resumeWindow: "1 hour" }
    })
    let runtime = yield* start

    const clients: Array<Client> = []
    const jobs: Array<Told> = []
    const join = Effect.gen(function* () {
      const features = (yield* below(3)) === 0 ? all.filter((name) => name !== "progress") : all
      const wire = yield* runtime.run(open({}, features))
      clients.push({ features, wire, isAttached: true, seen: [], observes: new Map() })
    })
    const drop = (client: Client) =>
      Effect.gen(function* () {
        // Some have read what they were sent, and some have not.
        if ((yield* below(2)) === 0) yield* drain(client, seed)
        client.isAttached = false
        yield* client.wire.connection.close(1000, "")
        yield* settle
      })
    const resume = (client: Client) =>
      Effect.gen(function* () {
        if (client.isAttached) yield* drain(client, seed)
        const { resume_token } = client.wire.welcome
        const from = { session_id: client.wire.sessionId, resume_token, last_event_seq: client.seen.length }
        client.wire = yield* runtime.run(open({ resume: from }, client.features))
        client.isAttached = true
      })
    const observe = (client: Client, { jobId, said }: Told, history: boolean) =>
      Effect.gen(function* () {
        // Without history it begins with what is said from here on: nothing may be on its way.
        yield* settle
        yield* client.wire.request("job.subscribe", { history }, { job_id: jobId })
        yield* settle
        client.observes.set(jobId, { after: history ? 0 : said.length })
      })
    const known = (key: number, owner: Client, lasts: boolean) => {
      const jobId = ids.get(key) ?? assert.fail(`seed ${seed}: job ${key} has not begun`)
      owner.observes.set(jobId, { after: 0 })
      jobs.push({ key, jobId, owner, lasts, said: [], isOver: false })
    }
    const newKey = Effect.map(Deferred.make<void>(), (more) => {
      const key = scripts.size + 1
      scripts.set(key, { commands: [], more })
      return key
    })
    const tell = ({ key }: Told, command: Command) =>
      Effect.gen(function* () {
        const script = scripts.get(key) ?? assert.fail(`there is no job ${key}`)
        script.commands.push(command)
        const { more } = script
        script.more = yield* Deferred.make<void>()
        yield* Deferred.succeed(more, undefined)
      })
    const submit = (client: Client) =>
      Effect.gen(function* () {
        const key = yield* newKey
        const lasts = (yield* below(2)) === 0
        yield* client.wire.request("job.submit", {
          agent: lasts ? "lasts" : "speaks",
          input: key,
          lease_request: delegates
        })
        yield* settle
        yield* drain(client, seed)
        known(key, client, lasts)
      })
    const say = (job: Told) =>
      Effect.gen(function* () {
        for (let times = 1 + (yield* below(5)); times > 0; times--) {
          const n = job.said.length + 1
          const isProgress = (yield* below(3)) === 0
          job.said.push({ word: n, isProgress })
          yield* tell(job, { say: n, kind: isProgress ? "progress" : "vendor" })
        }
        // Not always: what comes next may find it on its way.
        if ((yield* below(2)) === 0) yield* settle
      })
    const delegate = (job: Told) =>
      Effect.gen(function* () {
        const key = yield* newKey
        job.said.push({ word: "child", isProgress: false })
        yield* tell(job, { delegate: key })
        yield* settle
        known(key, job.owner, job.lasts)
      })
    /** With all that it has delegated, whose ends come first. */
    const over = (job: Told) =>
      Effect.gen(function* () {
        yield* tell(job, (yield* below(2)) === 0 ? "return" : "fail")
        yield* settle
        for (const other of jobs) {
          const record = yield* disk.store.job(other.jobId)
          other.isOver = record?.endedAt !== undefined
        }
        assert.isTrue(job.isOver, `seed ${seed}: job ${job.key} has ended`)
      })
    const restart = Effect.gen(function* () {
      // What a process has not committed dies with it: here it has. What it says while it ends, nobody hears.
      yield* settle
      for (const client of clients) {
        if (client.isAttached) yield* drain(client, seed)
        client.isAttached = false
      }
      yield* runtime.kill
      for (const job of jobs) if (!job.lasts) job.isOver = true
      runtime = yield* start
      // A job that has died several times in a row is not run again at once.
      yield* Effect.zipRight(settle, Effect.zipRight(TestClock.adjust("1 minute"), settle))
    })

    yield* join
    for (let step = 0; step < steps; step++) {
      const client = (yield* pick(clients)) as Client
      const job = yield* pick(jobs.filter(({ isOver }) => !isOver))
      const what = yield* below(20)
      if (what < 7) {
        if (job !== undefined) yield* say(job)
      } else if (what < 9) {
        if (client.isAttached && jobs.length < 12) yield* submit(client)
      } else if (what === 9) {
        if (job !== undefined && jobs.length < 12) yield* delegate(job)
      } else if (what === 10) {
        if (job !== undefined) yield* over(job)
      } else if (what === 11) {
        if (clients.length < 4) yield* join
      } else if (what < 14) {
        if (client.isAttached) yield* drop(client)
      } else if (what < 16) yield* resume(client)
      else if (what === 16) {
        const other = yield* pick(jobs)
        if (client.isAttached && other !== undefined && !client.observes.has(other.jobId))
          yield* observe(client, other, other.isOver || (yield* below(2)) === 0)
      } else if (what === 17) {
        if (client.isAttached) {
          yield* drain(client, seed)
          yield* client.wire.request("session.ack", { last_processed_seq: client.seen.length })
          yield* settle
        }
      } else if (what === 18) yield* Effect.zipRight(TestClock.adjust("5 seconds"), settle)
      else if ((yield* below(3)) === 0) yield* restart
    }
    for (const job of jobs) if (!job.isOver) yield* over(job)
    for (const client of clients) {
      yield* resume(client)
      yield* settle
      yield* drain(client, seed)
    }

    for (const [i, client] of clients.entries())
      for (const { jobId, key, said } of jobs) {
        const told = client.seen.filter(({ job_id }) => job_id === jobId)
        const words = told.map(wordOf).filter((word) => word !== undefined)
        const observed = client.observes.get(jobId)
        const sees = ({ isProgress }: { readonly isProgress: boolean }) =>
          !isProgress || client.features.includes("progress")
        const due =
          observed === undefined
            ? []
            : [
                ...said
                  .slice(observed.after)
                  .filter(sees)
                  .map(({ word }) => word),
                "end"
              ]
        assert.deepStrictEqual(words, due, `seed ${seed}: job ${key} as client ${i} was told of it`)
      }
  })

const given = process.env["ARCP_SEEDS"]
const seeds =
  given === undefined ? [1, 2, 3, 4, 5, 6, 7, 8] : Array.from({ length: Number(given) }, (_, i) => i + 1)

describe("what sessions are told of jobs, whatever comes when", () => {
  for (const seed of seeds)
    it.scoped(`is all of it, once, in order and to one end, seed ${seed}`, () => model(seed, 150))
})
