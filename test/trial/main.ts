/** A trial of several nodes: see bench/failover.mjs. */
import { setTimeout as sleep } from "node:timers/promises"
import { seeded } from "../e2e/support/random.js"
import { type Cluster, cluster, inDatabase, query } from "../testing/Postgres.js"
import { TcpProxy } from "../testing/TcpProxy.js"
import { check } from "./check.js"
import { draw, type Site, until } from "./faults.js"
import { Load, Told } from "./Load.js"
import { openJobsByNode } from "./stored.js"
import { TrialClient } from "./TrialClient.js"
import { TrialNode } from "./TrialNode.js"

export { faultNames } from "./faults.js"

export interface TrialOptions {
  readonly seed: number
  /** It ends after so many faults, or so many seconds, whichever comes first. */
  readonly cycles: number
  readonly seconds: number
  readonly nodes: number
  readonly clients: number
  /** Faults by name; empty: all. */
  readonly only: ReadonlyArray<string>
  /** Everything is held against everything each so many faults. */
  readonly checkEvery: number
  readonly say: (line: string) => void
  /** Gets what a node says that ends. */
  readonly keep: (name: string, said: string) => void
}

export interface Outcome {
  readonly cycles: number
  readonly failovers: number
  readonly jobs: number
  readonly breaches: ReadonlyArray<string>
}

const percentile = (values: ReadonlyArray<number>, p: number): number =>
  [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * p))] ?? Number.NaN

const spread = (values: ReadonlyArray<number>): string =>
  values.length === 0
    ? "none"
    : `p50 ${Math.round(percentile(values, 0.5))} ms, p99 ${Math.round(percentile(values, 0.99))} ms, max ${Math.round(Math.max(...values))} ms (${values.length})`

const counted = (counts: ReadonlyMap<string, number>): string =>
  [...counts].map(([what, count]) => `${count} × ${what}`).join("; ")

/** A trial that is running. */
class Trial {
  readonly breaches: Array<string> = []
  readonly taken: Array<number> = []
  readonly resumes: Array<number> = []
  readonly refusals = new Map<string, number>()
  failovers = 0
  jobs = 0
  cycles = 0
  private skewMs = 0

  constructor(
    private readonly options: TrialOptions,
    private readonly site: Site,
    private readonly balancer: TcpProxy,
    private readonly clients: ReadonlyArray<TrialClient>,
    private readonly load: Load
  ) {}

  breach(breach: string): void {
    this.breaches.push(breach)
    this.options.say(`  WRONG: ${breach}`)
  }

  get balancerUrl(): string {
    return `ws://127.0.0.1:${this.balancer.port}/arcp`
  }

  /** One fault, and all nodes back. */
  async cycle(): Promise<void> {
    const { options, site } = this
    const [name, fault] = draw(site.random, options.only)
    const begun = performance.now()
    try {
      const { failovers, takenMs, what } = await fault(site)
      this.failovers += failovers
      if (takenMs !== undefined) this.taken.push(takenMs)
      const took = takenMs === undefined ? "" : `, taken after ${Math.round(takenMs)} ms`
      options.say(`${this.cycles + 1} ${name}: ${what}${took}`)
    } catch (error) {
      this.breach(`${name}: ${error}`)
    }
    this.skewMs = Math.max(this.skewMs, ...site.nodes.map(({ skewMs }) => Math.abs(skewMs)))
    await this.recovered()
    this.cycles++
    await sleep(Math.max(0, 3_000 - (performance.now() - begun)))
  }

  /** All nodes take work, and no job is of one that is not there. */
  private async recovered(): Promise<void> {
    const { nodes, url } = this.site
    try {
      await until(() => nodes.every(({ isReady }) => isReady), "all nodes are ready")
      for (const node of nodes) node.isToEnd = false
      const names = new Set(nodes.map(({ name }) => name))
      await until(
        async () => [...(await openJobsByNode(url)).keys()].every((name) => names.has(name)),
        "each job has a node"
      )
    } catch (error) {
      this.breach(String(error))
      for (const node of nodes)
        if (!node.isReady) this.options.say(`  ${node.name}: ${node.program?.stderr.slice(-2_000)}`)
    }
  }

  /** Has somebody who has seen nothing yet read every job; returns what is told of their budgets. */
  private async readAll(reader: TrialClient, { submitted }: Told): Promise<ReadonlyMap<string, unknown>> {
    const budgets = new Map<string, unknown>()
    for (const jobId of new Set(submitted.flatMap(({ jobId }) => jobId ?? []))) {
      const subscribe = async () => {
        const answer = await reader.request("job.subscribe", { history: true, job_id: jobId }, jobId)
        if (answer?.type === "job.subscribed") budgets.set(jobId, answer.payload["budget"])
        return answer?.type === "job.subscribed"
      }
      await until(subscribe, `${jobId} can be subscribed to`).catch((error) => this.breach(String(error)))
    }
    await until(() => reader.open === 0, "all that has ended was read").catch((error) =>
      this.breach(String(error))
    )
    return budgets
  }

  /** Waits for the end of everything, and holds it against each other. */
  async settle(): Promise<void> {
    const { clients, load, site } = this
    load.pause()
    const isQuiet = async () =>
      load.isIdle &&
      clients.every(({ open, pending }) => open + pending === 0) &&
      (await openJobsByNode(site.url)).size === 0
    await until(isQuiet, "all jobs have ended and everybody was told").catch(async (error: unknown) => {
      this.breach(String(error))
      for (const client of clients) {
        const waited = client.waited.slice(-5)
        for (const { jobId, seen } of waited)
          this.options.say(
            `  ${client.name} has seen ${seen.length} of ${jobId}: ${seen.at(-1)?.slice(0, 200)}`
          )
      }
      this.options.say(`  open: ${counted(await openJobsByNode(site.url))}`)
    })
    const { told } = load
    const reader = new TrialClient("reader", () => this.balancerUrl)
    try {
      const budgets = await this.readAll(reader, told)
      const all = [...clients, reader]
      const wrong = await check({ url: site.url, clients: all, told, skewMs: this.skewMs + 1_000, budgets })
      for (const breach of wrong) this.breach(breach)
    } finally {
      await reader.stop()
    }
    this.jobs += told.submitted.length
    for (const [what, count] of told.refusals) this.refusals.set(what, (this.refusals.get(what) ?? 0) + count)
    for (const { refusals, resumes } of clients) {
      this.resumes.push(...resumes.splice(0))
      for (const [what, count] of refusals)
        this.refusals.set(`hello: ${what}`, (this.refusals.get(`hello: ${what}`) ?? 0) + count)
      refusals.clear()
    }
    load.told = new Told()
    await Promise.all(clients.map((client) => client.renew()))
    this.skewMs = 0
    this.options.say(
      `checked after ${this.cycles}: ${this.failovers} failovers, ${this.jobs} submits, ${this.breaches.length} wrong; ` +
        `resumed ${spread(this.resumes)}`
    )
    load.resume()
  }
}

/** What a node says that had no time to say that it is alive. */
const isStarved = /could not say that it is alive/

/** Everything that a trial needs, for as long as `use` runs. */
const staged = async (options: TrialOptions, use: (trial: Trial) => Promise<void>): Promise<Outcome> => {
  const postgres: Cluster = await cluster()
  const nodes: Array<TrialNode> = []
  const clients: Array<TrialClient> = []
  const unexpected: Array<string> = []
  let starved = 0
  const balanced = seeded(options.seed + 1)
  const balancer = await TcpProxy.start(() => {
    const ready = nodes.flatMap(({ target }) => target ?? [])
    return ready[balanced.below(ready.length)]
  })
  try {
    await query(postgres.url, "CREATE DATABASE trial")
    const url = inDatabase(postgres.url, "trial")
    const onExit = (node: TrialNode, exit: unknown, said: string) => {
      options.keep(node.name, said)
      if (node.isToEnd) return
      // A machine that has too much to do: what comes of it is as after any other fault, and is checked.
      if (isStarved.test(said)) starved++
      else unexpected.push(`${node.name} ended by itself: ${JSON.stringify(exit)}: ${said.slice(-600)}`)
    }
    for (let i = 0; i < options.nodes; i++)
      nodes.push(await TrialNode.start({ name: String.fromCharCode(97 + i), database: url, onExit }))
    await until(() => nodes.every(({ isReady }) => isReady), "all nodes are ready")
    const dialled = () => `ws://127.0.0.1:${balancer.port}/arcp`
    for (let i = 1; i <= options.clients; i++) clients.push(new TrialClient(`client-${i}`, dialled))
    const load = new Load(clients, seeded(options.seed + 2), new Told())
    const site = { url, postgres, nodes, random: seeded(options.seed) }
    const trial = new Trial(options, site, balancer, clients, load)
    await use(trial)
    await load.stop()
    for (const breach of unexpected) trial.breach(breach)
    if (starved > 0)
      options.say(`${starved} times a node could not say in time that it is alive, with no fault`)
    options.say(`taken over ${spread(trial.taken)}; resumed ${spread(trial.resumes)}`)
    options.say(`refused: ${counted(trial.refusals) || "nothing"}`)
    const { breaches, cycles, failovers, jobs } = trial
    return { breaches, cycles, failovers, jobs }
  } finally {
    await Promise.all(clients.map((client) => client.stop()))
    await Promise.all(nodes.map((node) => node.stop()))
    await balancer.stop()
    await postgres.close()
  }
}

export const run = (options: TrialOptions): Promise<Outcome> =>
  staged(options, async (trial) => {
    const end = performance.now() + options.seconds * 1_000
    while (trial.cycles < options.cycles && performance.now() < end) {
      await sleep(2_000)
      await trial.cycle()
      if (trial.cycles % options.checkEvery === 0) await trial.settle()
    }
    if (trial.cycles % options.checkEvery !== 0) await trial.settle()
  })
