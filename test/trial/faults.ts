/** What is done to the nodes of a trial and to their Postgres. Each waits until what it has done is over, and tells of it. */
import { setTimeout as sleep } from "node:timers/promises"
import type { seeded } from "../e2e/support/random.js"
import type { Cluster } from "../testing/Postgres.js"
import type { Passage } from "../testing/TcpProxy.js"
import { keeperOf, openJobsByNode } from "./stored.js"
import type { TrialNode } from "./TrialNode.js"

/** After so long without a sign of life others take a node for gone: the default of `arcp serve`. */
const expiryMs = 6_000
/** What everything is waited for at most, on a machine that has much else to do. */
const patienceMs = 240_000

export interface Site {
  readonly url: string
  readonly postgres: Cluster
  readonly nodes: ReadonlyArray<TrialNode>
  readonly random: ReturnType<typeof seeded>
}

/** What a fault has done, in words, and how many nodes others had to take over from. */
export interface Done {
  readonly what: string
  readonly failovers: number
  /** Milliseconds until no job was a node's that had gone. */
  readonly takenMs?: number | undefined
}

type Fault = (site: Site) => Promise<Done>

export const until = async (holds: () => boolean | Promise<boolean>, what: string): Promise<number> => {
  const begun = performance.now()
  while (!(await holds())) {
    if (performance.now() - begun > patienceMs) throw new Error(`not within ${patienceMs} ms: ${what}`)
    await sleep(100)
  }
  return performance.now() - begun
}

const oneOf = ({ nodes, random }: Site): TrialNode => {
  const node = nodes[random.below(nodes.length)]
  if (node === undefined) throw new Error("there are no nodes")
  return node
}

const between = ({ random }: Site, least: number, most: number): number => least + random.below(most - least)

const seconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`

/** The end of a process, which may have come already; one of which nobody has taken anything may also go on. */
const over = (node: TrialNode, starts: number): Promise<number> =>
  until(
    () => node.starts > starts || node.program?.exit !== undefined || node.isReady,
    `${node.name} has ended, or is a node again`
  )

/**
 * Does something that ends a node, and waits until no job that has not ended is that node's, or it is back and has them itself.
 * Returns how long that took, when it had any.
 */
const losing = async (
  site: Site,
  node: TrialNode,
  act: () => Promise<void> | void
): Promise<number | undefined> => {
  const { starts } = node
  node.isToEnd = true
  // Sometimes back before others have noticed, sometimes long after.
  node.restartMs = site.random.next() < 0.4 ? 300 : 2 * expiryMs
  const had = (await openJobsByNode(site.url)).get(node.name) ?? 0
  await act()
  // While Postgres is away nobody knows.
  const has = async () => (await openJobsByNode(site.url).catch(() => undefined))?.has(node.name) ?? true
  const ms = await until(
    async () => (node.starts > starts && node.isReady) || !(await has()),
    `others have taken what ${node.name} had`
  )
  return had > 0 ? ms : undefined
}

/** The same by a signal that ends the process; what it had may be with others before it has ended. */
const ending = async (site: Site, node: TrialNode, signal: NodeJS.Signals): Promise<number | undefined> => {
  const { program, starts } = node
  const takenMs = await losing(site, node, () => node.signal(signal))
  await until(() => node.starts > starts || program?.exit !== undefined, `${node.name} has ended`)
  return takenMs
}

const kill: Fault = async (site) => {
  const node = oneOf(site)
  const takenMs = await ending(site, node, "SIGKILL")
  return { what: `kill -9 ${node.name}`, failovers: 1, takenMs }
}

const killTwo: Fault = async (site) => {
  const [first, second] = [...site.nodes].sort(() => site.random.next() - 0.5) as [TrialNode, TrialNode]
  const both = [first, second].map((node) => ending(site, node, "SIGKILL"))
  const takenMs = Math.max(...(await Promise.all(both)).map((ms) => ms ?? 0))
  return { what: `kill -9 ${first.name} and ${second.name}`, failovers: 2, takenMs }
}

const terminate: Fault = async (site) => {
  const node = oneOf(site)
  const takenMs = await ending(site, node, "SIGTERM")
  return { what: `SIGTERM ${node.name}`, failovers: 1, takenMs }
}

/** The node that does for all what one is to do. */
const keeper = async (site: Site): Promise<TrialNode> => {
  const name = await keeperOf(site.url)
  return site.nodes.find((node) => node.name === name) ?? oneOf(site)
}

/** That one dies, and another with it: whoever follows it takes over from both. */
const killKeeper: Fault = async (site) => {
  const first = await keeper(site)
  const others = site.nodes.filter((node) => node !== first)
  const second = others[site.random.below(others.length)] ?? first
  const both = [first, second].map((node) => ending(site, node, "SIGKILL"))
  const takenMs = Math.max(...(await Promise.all(both)).map((ms) => ms ?? 0))
  return { what: `kill -9 ${first.name}, which kept, and ${second.name}`, failovers: 2, takenMs }
}

/** Stops a process for longer than others wait; when it goes on it must write nothing any more, and end. */
const pausing =
  (which: (site: Site) => TrialNode | Promise<TrialNode>): Fault =>
  async (site) => {
    const node = await which(site)
    const ms = between(site, 1.6 * expiryMs, 3 * expiryMs)
    const { starts } = node
    const takenMs = await losing(site, node, () => node.signal("SIGSTOP"))
    await sleep(Math.max(0, ms - (takenMs ?? 0)))
    node.signal("SIGCONT")
    await over(node, starts)
    return { what: `SIGSTOP ${node.name} for ${seconds(ms)}`, failovers: 1, takenMs }
  }

/** Stops a process for a moment: nothing may come of it but a delay. */
const nod: Fault = async (site) => {
  const node = oneOf(site)
  const ms = between(site, 300, 2_000)
  node.signal("SIGSTOP")
  await sleep(ms)
  node.signal("SIGCONT")
  return { what: `SIGSTOP ${node.name} for ${seconds(ms)}`, failovers: 0 }
}

/** Takes a node's way to Postgres away, for longer than others wait. */
const partition =
  (passage: Passage): Fault =>
  async (site) => {
    const node = oneOf(site)
    const ms = between(site, 1.6 * expiryMs, 3 * expiryMs)
    const { starts } = node
    try {
      const takenMs = await losing(site, node, () => {
        node.wire.passage = passage
      })
      await sleep(Math.max(0, ms - (takenMs ?? 0)))
      await over(node, starts)
      const what = `Postgres ${passage} for ${node.name}, ${seconds(ms)}`
      return { what, failovers: 1, takenMs }
    } finally {
      node.wire.passage = "open"
    }
  }

/** The same for a moment. */
const hiccup =
  (passage: Passage): Fault =>
  async (site) => {
    const node = oneOf(site)
    const ms = between(site, 200, 1_500)
    node.wire.passage = passage
    await sleep(ms)
    node.wire.passage = "open"
    return { what: `Postgres ${passage} for ${node.name}, ${seconds(ms)}`, failovers: 0 }
  }

/** Takes the way away, or stops the process, for about as long as others wait: it is lost, or it is not. */
const edge: Fault = async (site) => {
  const node = oneOf(site)
  const { starts } = node
  const ms = between(site, expiryMs - 400, expiryMs + 800)
  const kind = (["cut", "held", "SIGSTOP"] as const)[site.random.below(3)] ?? "cut"
  node.isToEnd = true
  node.restartMs = 300
  if (kind === "SIGSTOP") node.signal("SIGSTOP")
  else node.wire.passage = kind
  try {
    await sleep(ms)
  } finally {
    node.wire.passage = "open"
    node.signal("SIGCONT")
  }
  // What it is told by then ends it, if anything does.
  await sleep(2_000)
  await until(() => node.isReady, `${node.name} is a node`)
  const isLost = node.starts > starts
  return {
    what: `${kind} ${node.name} for ${seconds(ms)}: ${isLost ? "lost" : "stays"}`,
    failovers: isLost ? 1 : 0
  }
}

/** Somebody starts a node under the name of one that is there: it is refused, and says why, and the other goes on. */
const twin: Fault = async (site) => {
  const node = oneOf(site)
  const { starts } = node
  const { exit, said } = await node.twin()
  if (exit.code === 0 || !/alive/.test(said))
    throw new Error(`a twin of ${node.name} was let in, or not told: ${said}`)
  if (node.starts > starts || !node.isReady) throw new Error(`a twin of ${node.name} has ended it`)
  return { what: `a twin of ${node.name}, refused`, failovers: 0 }
}

/** A deployment in which a node is killed while another hands over. */
const rollingKilled: Fault = async (site) => {
  const [first, second, ...others] = [...site.nodes].sort(() => site.random.next() - 0.5) as [
    TrialNode,
    TrialNode
  ]
  const leaving = ending(site, first, "SIGTERM")
  await sleep(between(site, 50, 1_500))
  const killed = ending(site, second, "SIGKILL")
  const takenMs = Math.max((await leaving) ?? 0, (await killed) ?? 0)
  for (const node of others) await ending(site, node, "SIGTERM")
  return {
    what: `SIGTERM ${first.name}, kill -9 ${second.name} meanwhile, the others after it`,
    failovers: site.nodes.length,
    takenMs
  }
}

/** Postgres is restarted, as an operator does. */
const restart: Fault = async ({ postgres }) => {
  await postgres.command("stop")
  await postgres.command("start")
  return { what: "Postgres is restarted", failovers: 0 }
}

/** Postgres crashes, and is back at once. */
const crash: Fault = async ({ postgres }) => {
  await postgres.command("kill")
  await postgres.command("start")
  return { what: "Postgres crashes", failovers: 0 }
}

/** Postgres is away for longer than nodes may be silent. */
const away: Fault = async (site) => {
  const ms = between(site, 20_000, 60_000)
  for (const node of site.nodes) node.isToEnd = true
  await site.postgres.command("stop")
  await sleep(ms)
  await site.postgres.command("start")
  return { what: `Postgres is away for ${seconds(ms)}`, failovers: site.nodes.length }
}

/** One node goes on with a clock that is minutes off, until the next time. */
const skew: Fault = async (site) => {
  const node = oneOf(site)
  for (const each of site.nodes) each.skewMs = 0
  node.skewMs =
    (site.random.next() < 0.5 ? -1 : 1) *
    between(site, 60_000, site.random.next() < 0.5 ? 300_000 : 3_600_000)
  const takenMs = await ending(site, node, "SIGKILL")
  return {
    what: `kill -9 ${node.name}, back with a clock ${seconds(node.skewMs)} off`,
    failovers: 1,
    takenMs
  }
}

/** Each node after the other, as a deployment does it. */
const rolling: Fault = async (site) => {
  let takenMs = 0
  for (const node of site.nodes) {
    const { starts } = node
    takenMs = Math.max(takenMs, (await ending(site, node, "SIGTERM")) ?? 0)
    node.restartMs = 300
    await until(() => node.starts > starts && node.isReady, `${node.name} is back`)
  }
  return { what: "rolling restart", failovers: site.nodes.length, takenMs }
}

/** A node dies, and Postgres crashes while others take over. */
const crashWhileTaking: Fault = async (site) => {
  const node = oneOf(site)
  const takenMs = await losing(site, node, async () => {
    node.signal("SIGKILL")
    await sleep(between(site, expiryMs - 1_000, expiryMs + 1_500))
    await site.postgres.command("kill")
    await site.postgres.command("start")
  })
  return { what: `kill -9 ${node.name}, and Postgres crashes`, failovers: 1, takenMs }
}

/** How often each comes up, against the others. */
const weights: Readonly<Record<string, readonly [number, Fault]>> = {
  kill: [5, kill],
  "kill-two": [2, killTwo],
  terminate: [3, terminate],
  "kill-keeper": [1, killKeeper],
  pause: [4, pausing(oneOf)],
  "pause-keeper": [2, pausing(keeper)],
  nod: [1, nod],
  cut: [2, partition("cut")],
  hold: [2, partition("held")],
  "cut-short": [1, hiccup("cut")],
  "hold-short": [1, hiccup("held")],
  edge: [3, edge],
  twin: [1, twin],
  restart: [1, restart],
  crash: [1, crash],
  "crash-taking": [1, crashWhileTaking],
  away: [1, away],
  skew: [2, skew],
  rolling: [2, rolling],
  "rolling-killed": [1, rollingKilled]
}

export const faultNames: ReadonlyArray<string> = Object.keys(weights)

/** Draws a fault, of those that are named when some are. */
export const draw = (
  random: ReturnType<typeof seeded>,
  only: ReadonlyArray<string>
): readonly [string, Fault] => {
  const among = Object.entries(weights).filter(([name]) => only.length === 0 || only.includes(name))
  let left = random.next() * among.reduce((sum, [, [weight]]) => sum + weight, 0)
  for (const [name, [weight, fault]] of among) {
    left -= weight
    if (left <= 0) return [name, fault]
  }
  throw new Error("there are no faults")
}
