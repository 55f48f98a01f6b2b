/** Who begins when: against a model that looks at everybody each time. */
import * as fc from "effect/FastCheck"
import { describe, expect, it } from "vitest"
import { Heap } from "../../../../src/layers/jobs/scheduling/Heap.js"
import { Places, type Waiter } from "../../../../src/layers/jobs/scheduling/Places.js"

interface Job extends Waiter {
  gone: boolean
}

const limits: Readonly<Record<string, number | undefined>> = { a: 1, b: 2, c: undefined }

/** What happens to the places: a job comes, one that runs ends, one that waits goes. */
const action = fc.oneof(
  fc.record({
    _tag: fc.constant("come" as const),
    principal: fc.constantFrom("p", "q"),
    agent: fc.constantFrom("a", "b", "c"),
    isChild: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
    late: fc.integer({ min: 0, max: 3 })
  }),
  fc.record({ _tag: fc.constant("end" as const), which: fc.nat() }),
  fc.record({ _tag: fc.constant("go" as const), which: fc.nat() })
)

type Action = typeof action extends fc.Arbitrary<infer A> ? A : never

const perPrincipal = 2

/** Runs the actions over places, and begins whoever may after each. */
const play = (actions: ReadonlyArray<Action>) => {
  const places = new Places<Job>(perPrincipal, () => {})
  const waiting: Array<Job> = []
  const running: Array<{ readonly job: Job; readonly leave: () => void }> = []
  const taken = (of: (job: Job) => boolean) => running.filter(({ job }) => of(job)).length
  const isFree = ({ agent, principal }: Job) =>
    taken((job) => job.agent === agent) < (limits[agent] ?? Infinity) &&
    taken((job) => job.principal === principal && job.parentJobId === undefined) < perPrincipal
  let ids = 0
  const run = (job: Job) => running.push({ job, leave: places.take(job) })
  const settle = () => {
    for (let job = places.next(); job !== undefined; job = places.next()) {
      expect(isFree(job), "it has a place").toBe(true)
      const ahead = waiting.filter((other) => isFree(other) && other.readyAt < job.readyAt)
      expect(ahead, "no older one could begin").toEqual([])
      waiting.splice(waiting.indexOf(job), 1)
      places.handOver(job)
      run(job)
    }
  }
  for (const [now, action] of actions.entries()) {
    switch (action._tag) {
      case "come": {
        const { agent, isChild, late, principal } = action
        const job: Job = {
          jobId: `job_${String(++ids).padStart(4, "0")}`,
          principal,
          agent,
          parentJobId: isChild ? "job_parent" : undefined,
          readyAt: now - late,
          concurrency: limits[agent],
          gone: false
        }
        if (isChild) run(job)
        else if (!places.mustWait(job)) {
          expect(isFree(job), "it need not wait").toBe(true)
          run(job)
        } else {
          waiting.push(job)
          places.add(job)
        }
        break
      }
      case "end":
        running.splice(running.length === 0 ? 0 : action.which % running.length, 1)[0]?.leave()
        break
      case "go": {
        const [job] = waiting.splice(waiting.length === 0 ? 0 : action.which % waiting.length, 1)
        if (job === undefined) break
        job.gone = true
        places.lost(job)
      }
    }
    settle()
  }
  const end = () => {
    for (let steps = 0; running.length > 0 || waiting.length > 0; steps++) {
      expect(steps, "everybody begins").toBeLessThan(10_000)
      running.shift()?.leave()
      settle()
    }
  }
  return { places, running, waiting, isFree, end }
}

describe("places", () => {
  it("are never more than the limits, nobody waits for ever, and nothing is left", () => {
    fc.assert(
      fc.property(fc.array(action, { maxLength: 120 }), (actions) => {
        const played = play(actions)
        played.end()
        const state = played.places as unknown as Record<string, { readonly size: number }>
        for (const name of ["principals", "agents", "lanes", "coming"])
          expect(state[name]?.size, name).toBe(0)
      }),
      { numRuns: 300 }
    )
  })

  it("are not left free while somebody waits for them alone", () => {
    fc.assert(
      fc.property(
        fc.array(
          action.filter((one) => one._tag !== "come" || one.agent !== "c"),
          { maxLength: 60 }
        ),
        (actions) => {
          const { isFree, waiting } = play(actions)
          // But for a principal's place that is kept for one that was passed over 16 times, which takes more than this.
          expect(waiting.filter(isFree)).toEqual([])
        }
      ),
      { numRuns: 300 }
    )
  })

  it("go to the oldest, across principals", () => {
    const places = new Places<Job>(10, () => {})
    const job = (jobId: string, principal: string, readyAt: number): Job => ({
      jobId,
      principal,
      agent: "a",
      readyAt,
      concurrency: 1,
      gone: false
    })
    let leave = places.take(job("job_0", "p", 0))
    const jobs = [job("job_1", "p", 1), job("job_2", "q", 2), job("job_3", "p", 3), job("job_4", "q", 4)]
    for (const one of [...jobs].reverse()) places.add(one)
    const order: Array<string> = []
    for (let i = 0; i < 4; i++) {
      expect(places.next()).toBeUndefined()
      leave()
      const next = places.next() as Job
      order.push(next.jobId)
      places.handOver(next)
      leave = places.take(next)
    }
    expect(order).toEqual(["job_1", "job_2", "job_3", "job_4"])
  })

  it("of one that is passed over again and again are kept for it", () => {
    const places = new Places<Job>(1, () => {})
    let ids = 0
    const job = (principal: string, agent: string, readyAt: number): Job => ({
      jobId: `job_${++ids}`,
      principal,
      agent,
      readyAt,
      concurrency: 1,
      gone: false
    })
    const starved = job("p", "x", 0)
    // Its principal's place and its agent's are each taken whenever the other is free.
    let other = places.take(job("p", "y", 1))
    let same = places.take(job("q", "x", 1))
    places.add(starved)
    let rounds = 0
    for (let begun: Job | undefined; begun !== starved; rounds++) {
      expect(rounds).toBeLessThan(200)
      places.add(job("p", "y", 2 + rounds))
      places.add(job("q", "x", 2 + rounds))
      if (rounds % 2 === 0) {
        other()
        other = () => {}
      } else {
        same()
        same = () => {}
      }
      begun = places.next()
      if (begun === undefined || begun === starved) continue
      places.handOver(begun)
      const leave = places.take(begun)
      if (begun.agent === "y") other = leave
      else same = leave
      expect(places.next()).toBeUndefined()
    }
    expect(rounds).toBeGreaterThan(1)
  })

  it("cost little with many who wait", () => {
    const places = new Places<Job>(1_000_000, () => {})
    const count = 100_000
    const leave = places.take({ principal: "p0", agent: "a" })
    for (let i = 0; i < count; i++)
      places.add({
        jobId: `job_${String(i).padStart(6, "0")}`,
        principal: `p${i % 1_000}`,
        agent: "a",
        readyAt: i,
        concurrency: 1,
        gone: false
      })
    leave()
    let begun = 0
    for (let next = places.next(); next !== undefined; next = places.next()) {
      expect(next.readyAt).toBe(begun++)
      places.release(next)
    }
    expect(begun).toBe(count)
  })
})

it("a heap gives what it has in order", () => {
  fc.assert(
    fc.property(fc.array(fc.integer()), fc.array(fc.integer()), (first, second) => {
      const heap = new Heap<number>((a, b) => a < b)
      for (const n of first) heap.push(n)
      heap.retain((n) => n % 2 === 0)
      for (const n of second) heap.push(n)
      const wanted = [...first.filter((n) => n % 2 === 0), ...second].sort((a, b) => a - b)
      expect(Array.from({ length: heap.size }, () => heap.pop())).toEqual(wanted)
    })
  )
})
