/**
 * Durable jobs of random shape, killed at each of their commits: steps that are paid for and can be undone, sleeps that are
 * waited for in memory and not, questions, children, failures, and jobs that begin later. A few in a whole run;
 * `ARCP_TEST_PLANS=100 npx vitest run --project memory test/testing/plans.test.ts` for many, from `ARCP_TEST_SEED` on.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { later } from "../../src/layers/client/later.js"
import * as Agent from "../../src/services/agents/Agent.js"
import { Job, type JobService, Step } from "../../src/services/jobs/Job.js"
import { Lease } from "../../src/services/lease/Lease.js"
import * as TestRuntime from "../../src/testing/TestRuntime.js"
import { seeded } from "../e2e/support/random.js"

const count = Number(process.env["ARCP_TEST_PLANS"] ?? 3)
const firstSeed = Number(process.env["ARCP_TEST_SEED"] ?? 5)

type Act =
  | { readonly _tag: "Step"; readonly key: string; readonly pays: boolean; readonly undoes: boolean }
  | { readonly _tag: "Sleep"; readonly key: string; readonly seconds: number }
  | { readonly _tag: "Ask"; readonly key: string; readonly seconds: number }
  | { readonly _tag: "Log"; readonly key: string }
  | {
      readonly _tag: "Child"
      readonly key: string
      readonly acts: ReadonlyArray<Act>
      readonly lets: boolean
    }
  | { readonly _tag: "Both"; readonly acts: ReadonlyArray<Act> }
  | { readonly _tag: "Fail" }

/** Makes a plan of a job. */
const planned = (seed: number) => {
  const { below } = seeded(seed)
  let keys = 0
  const key = () => `k${++keys}`
  const sleep = (): Act => ({ _tag: "Sleep", key: key(), seconds: [1, 20, 45, 4_000][below(4)] as number })
  const act = (depth: number): Act => {
    switch (below(depth === 0 ? 9 : 7)) {
      case 0:
      case 1:
        return { _tag: "Step", key: key(), pays: below(2) === 0, undoes: below(2) === 0 }
      case 2:
        return sleep()
      case 3:
        return { _tag: "Ask", key: key(), seconds: [10, 100][below(2)] as number }
      case 4:
        return { _tag: "Log", key: key() }
      case 5:
        return { _tag: "Both", acts: [sleep(), { _tag: "Step", key: key(), pays: true, undoes: true }] }
      case 6:
        return { _tag: "Both", acts: [sleep(), sleep()] }
      default:
        return { _tag: "Child", key: key(), acts: acts(1, 3), lets: below(2) === 0 }
    }
  }
  const acts = (depth: number, most: number): ReadonlyArray<Act> => {
    const some = Array.from({ length: 1 + below(most) }, () => act(depth))
    return below(3) === 0 ? [...some, { _tag: "Fail" }] : some
  }
  return { acts: acts(0, 5), delay: below(3) === 0 ? 50 : 0 }
}

/** What the jobs of a run have done and undone, in order: each idempotency key once, as a good world counts. */
class World {
  readonly did = new Map<string, Array<string>>()
  private readonly keys = new Set<string>()

  act(job: JobService, what: string): Effect.Effect<void, never, Step> {
    return Effect.map(Step, ({ idempotencyKey }) => {
      if (this.keys.has(idempotencyKey)) return
      this.keys.add(idempotencyKey)
      const did = this.did.get(job.jobId)
      if (did === undefined) this.did.set(job.jobId, [what])
      else did.push(what)
    })
  }
  reset(): void {
    this.did.clear()
    this.keys.clear()
  }
}

const pay = Effect.flatMap(Lease, (lease) => lease.spend({ amount: "0.01", currency: "USD" }))

/** Does what is planned. */
const run = (world: World, acts: ReadonlyArray<Act>, isAnswered: boolean) =>
  Effect.flatMap(Job, (job) => {
    const perform = (act: Act): Effect.Effect<unknown, unknown, Lease> => {
      switch (act._tag) {
        case "Step":
          return job.step(
            act.key,
            Effect.zipRight(act.pays ? pay : Effect.void, world.act(job, `do ${act.key}`)),
            act.undoes ? { compensate: () => world.act(job, `undo ${act.key}`) } : {}
          )
        case "Sleep":
          return job.sleep(act.key, `${act.seconds} seconds`)
        case "Ask":
          return isAnswered
            ? job.input(act.key, { prompt: "?", about: act.key })
            : job
                .input(act.key, { prompt: "?", expiresIn: `${act.seconds} seconds` })
                .pipe(Effect.catchTag("InputExpired", () => Effect.succeed("expired")))
        case "Log":
          return job.log("info", act.key)
        case "Both":
          return Effect.forEach(act.acts, perform, { concurrency: 2 })
        case "Child":
          return Effect.gen(function* () {
            const child = yield* job.delegate("planned-child", act.acts, {
              key: act.key,
              lease: { "cost.budget": ["USD:0.5"] }
            })
            if (act.lets) yield* job.sleep(`${act.key} meanwhile`, "40 seconds")
            return yield* child.await
          })
        case "Fail":
          return Effect.fail("as planned")
      }
    }
    return Effect.forEach(acts, perform)
  }).pipe(Effect.orDie)

const agentOf = (world: World, name: string, isAnswered: boolean) =>
  Agent.handle(
    Agent.make(name, { version: "1.0.0", durable: true, concurrency: 1, compensateWithin: "5 minutes" }),
    (acts) => run(world, acts as ReadonlyArray<Act>, isAnswered)
  )

/** What was undone is what was done and can be undone, in reverse order; or nothing, of a job that may have succeeded. */
const expectUndone = (acts: ReadonlyArray<Act>, did: ReadonlyArray<string>, hasFailed: boolean) => {
  const undoable = new Set<string>()
  const look = (act: Act) => {
    if (act._tag === "Step" && act.undoes) undoable.add(act.key)
    if (act._tag === "Both" || act._tag === "Child") act.acts.forEach(look)
  }
  acts.forEach(look)
  const [done, undone] = ["do ", "undo "].map((word) =>
    did.filter((what) => what.startsWith(word)).map((what) => what.slice(word.length))
  ) as [Array<string>, Array<string>]
  if (hasFailed || undone.length > 0)
    assert.deepStrictEqual(undone, done.filter((key) => undoable.has(key)).reverse())
}

describe("random durable jobs", () => {
  for (let seed = firstSeed; seed < firstSeed + count; seed++)
    it.effect(`come to the same at whichever commit the process dies: ${seed}`, () =>
      Effect.gen(function* () {
        const world = new World()
        const { acts, delay } = planned(seed)
        yield* TestRuntime.everyCrash(agentOf(world, "planned", true), acts, {
          agents: [agentOf(world, "planned-child", false)],
          answer: () => "yes",
          submit: {
            leaseRequest: { "agent.delegate": ["*"], "cost.budget": ["USD:5"] },
            ...(delay === 0 ? {} : later({ delay: `${delay} seconds` }))
          },
          each: ({ jobId, result }) =>
            Effect.sync(() => {
              for (const [id, did] of world.did)
                expectUndone(acts, did, id === jobId && result._tag === "Failure")
              if (result._tag === "Success")
                assert.isFalse([...world.did.values()].flat().some((what) => what.startsWith("undo")))
              world.reset()
            })
        })
      })
    )
})
