/** What the clients of a trial do, by a seed: jobs of every shape, keys that race, cancels, subscriptions, and moves. */
import { setTimeout as sleep } from "node:timers/promises"
import type { Frame } from "../e2e/support/Frame.js"
import type { seeded } from "../e2e/support/random.js"
import type { TrialClient } from "./TrialClient.js"

/** Jobs that a client has open at most, so that a slow machine has less to do. */
const maxOpen = 8
/** Between two things that a client does. */
const pauseMs = { least: 150, most: 1_000 }

/** What was submitted, and what came of it. */
export interface Submitted {
  readonly agent: string
  readonly key: string | undefined
  readonly budget: string | undefined
  /** What its result is, when it has one. */
  readonly result: number
  jobId: string | undefined
}

/** What the clients were told, to be held against what is stored. */
export class Told {
  readonly submitted: Array<Submitted> = []
  /** Jobs whose cancel was asked for. */
  readonly asked = new Set<string>()
  /** Jobs whose cancel was acknowledged, and when. */
  readonly cancelled = new Map<string, number>()
  /** Refusals by what they say. */
  readonly refusals = new Map<string, number>()

  refuse(what: string, { payload }: Frame): void {
    const text = `${what}: ${payload.code} ${payload.details?.["reason"] ?? payload.details?.["limit"] ?? payload.message}`
    this.refusals.set(text, (this.refusals.get(text) ?? 0) + 1)
  }
}

export class Load {
  private isPaused = false
  private isOver = false
  private readonly loops: Array<Promise<void>>
  private keys = 0
  /** What was begun and is not answered yet. */
  private busy = 0

  constructor(
    private readonly clients: ReadonlyArray<TrialClient>,
    private readonly random: ReturnType<typeof seeded>,
    public told: Told
  ) {
    this.loops = clients.map((client) => this.loop(client))
  }

  get isIdle(): boolean {
    return this.busy === 0
  }
  pause(): void {
    this.isPaused = true
  }
  resume(): void {
    this.isPaused = false
  }
  async stop(): Promise<void> {
    this.isOver = true
    await Promise.all(this.loops)
  }

  private async loop(client: TrialClient): Promise<void> {
    while (!this.isOver) {
      await sleep(pauseMs.least + this.random.below(pauseMs.most - pauseMs.least))
      if (!this.isPaused && !this.isOver) this.act(client)
    }
  }

  /** Waits for something beside what else the client does. */
  private beside(work: Promise<unknown>): void {
    this.busy++
    void work.finally(() => {
      this.busy--
    })
  }

  private act(client: TrialClient): void {
    const what = this.random.next()
    if (what < 0.1) client.drop()
    else if (what < 0.25) this.subscribe(client)
    else if (client.open + client.pending < maxOpen) this.submit(client)
  }

  private submit(client: TrialClient): void {
    const { random } = this
    const what = random.next()
    const count = 10 + random.below(30)
    const ms = 50 + random.below(200)
    const input = { count, ms }
    const third = Math.ceil(count / 3)
    if (what < 0.35) this.beside(this.begin(client, "steps", input, count))
    else if (what < 0.55) this.beside(this.begin(client, "tree", { count: third, ms }, 4 * third, "USD:5"))
    else if (what < 0.65) this.beside(this.begin(client, "nap", { count: 2, ms: 1_000 + ms * 10 }, 2))
    else if (what < 0.75) this.beside(this.begin(client, "speak", input, count))
    else if (what < 0.88) this.race(client, input)
    else this.beside(this.cancelled(client, input))
  }

  private async begin(
    client: TrialClient,
    agent: string,
    input: unknown,
    result: number,
    budget?: string,
    key?: string
  ): Promise<string | undefined> {
    const submitted: Submitted = { agent, key, budget, result, jobId: undefined }
    this.told.submitted.push(submitted)
    const lease =
      agent === "tree" ? { lease_request: { "agent.delegate": ["part"], "cost.budget": [budget] } } : {}
    const keyed = key === undefined ? {} : { idempotency_key: key }
    for (;;) {
      const answer = await client.request("job.submit", { agent, input, ...lease, ...keyed })
      if (answer === undefined) return undefined
      if (answer.type === "job.accepted") {
        submitted.jobId = answer.job_id
        return answer.job_id
      }
      this.told.refuse("submit", answer)
      await sleep(500)
      if (this.isOver) return undefined
    }
  }

  /** The same key from two clients at once. */
  private race(client: TrialClient, input: { readonly count: number }): void {
    const key = `key ${++this.keys}`
    const other = this.clients[this.random.below(this.clients.length)] ?? client
    for (const each of [client, other])
      this.beside(this.begin(each, "steps", input, input.count, undefined, key))
  }

  /** A job that is cancelled long before its end, from wherever its client is by then. */
  private async cancelled(client: TrialClient, input: { readonly count: number }): Promise<void> {
    const agent = this.random.next() < 0.7 ? "steps" : "speak"
    const jobId = await this.begin(client, agent, { ...input, ms: 400 }, input.count)
    if (jobId === undefined) return
    await sleep(this.random.below(1_500))
    if (this.random.next() < 0.3) client.drop()
    for (let attempt = 0; attempt < 20 && !this.isOver; attempt++) {
      this.told.asked.add(jobId)
      const answer = await client.request("job.cancel", { reason: "trial" }, jobId)
      if (answer?.type === "job.cancelled") {
        this.told.cancelled.set(jobId, Date.now())
        return
      }
      if (answer !== undefined) this.told.refuse("cancel", answer)
      await sleep(300)
    }
  }

  /** Watches what another client runs. */
  private subscribe(client: TrialClient): void {
    const { submitted } = this.told
    const newest = submitted
      .slice(-10)
      .flatMap(({ jobId }) => (jobId === undefined || client.follows(jobId) ? [] : [jobId]))
    const jobId = newest[this.random.below(newest.length)]
    if (jobId === undefined) return
    this.beside(
      client.request("job.subscribe", { history: true, job_id: jobId }, jobId).then((answer) => {
        if (answer !== undefined && answer.type !== "job.subscribed") this.told.refuse("subscribe", answer)
      })
    )
  }
}
