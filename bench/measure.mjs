/** Measures one figure: every side in turn, round after round. */
import { peerServer, startClient, startServer } from "./processes.mjs"

/** Seconds one measured run may take; what is slower emits fewer events. */
const runSec = 10

/** The sides of a figure: what is measured beside what. */
const sidesOf = (figure, { peer, subject }) =>
  figure.sides ?? {
    floor: { kind: "floor" },
    subject: { kind: subject },
    ...(peer === undefined ? {} : { peer: { kind: "peer" } })
  }

/** What only a process of this machine can be asked. */
const unaskable = ({ needsCpu, needsRss }, server) =>
  (needsCpu || needsRss) && server.rssBytes() === undefined ? "needs --peer-pid" : undefined

/** Servers and clients of a figure, started when they are needed and kept as long as the figure says. */
class Rig {
  #servers = new Map()
  #clients

  constructor(figure, settings) {
    this.figure = figure
    this.settings = settings
  }
  /** Runs `use` with the server of a side and two clients. */
  async with({ kind }, use) {
    const { freshClients, freshServers } = this.figure
    const server = this.#servers.get(kind) ?? (await this.#start(kind))
    this.#servers.set(kind, server)
    this.#clients ??= this.#startClients()
    try {
      return await use(server, this.#clients)
    } finally {
      if (freshServers) await this.#stopServers()
      // What it holds of a fresh server is gone.
      if (freshServers || freshClients) await this.#stopClients()
    }
  }
  /** Stops all; what is needed again is started again. */
  async stop() {
    await this.#stopClients()
    await this.#stopServers()
  }
  #start(kind) {
    const { base, peer } = this.settings
    const { limits, store } = this.figure
    return kind === "peer" ? peerServer(peer) : startServer({ kind, store, extra: limits, base })
  }
  #startClients() {
    const { deadlineMs } = this.settings
    return { client: startClient({ deadlineMs }), otherClient: startClient({ deadlineMs }) }
  }
  async #stopServers() {
    const servers = [...this.#servers.values()]
    this.#servers.clear()
    await Promise.all(servers.map((server) => server.stop()))
  }
  async #stopClients() {
    const clients = this.#clients
    this.#clients = undefined
    if (clients !== undefined) await Promise.all([clients.client.stop(), clients.otherClient.stop()])
  }
}

/** One run of one side, with the CPU time that the server used. */
const visit = (rig, side, count) =>
  rig.with(side, async (server, clients) => {
    const refusal = unaskable(rig.figure, server)
    if (refusal !== undefined) throw new Error(refusal)
    const cpu = server.cpuNs()
    const result = await rig.figure.measure({ ...clients, server, side, count })
    const used = server.cpuNs()
    return {
      ...result,
      ...(cpu === undefined || used === undefined ? {} : { serverCpuNs: used - cpu })
    }
  })

/** How many events each job emits: as many as are wanted, unless that takes too long here. */
const affordable = async (rig, sides) => {
  const { count: wanted, jobs } = rig.figure
  if (wanted === undefined) return undefined
  const few = Math.ceil(wanted / 10)
  await visit(rig, sides.floor, few)
  const { values } = await visit(rig, sides.subject, few)
  return Math.min(wanted, Math.max(few, Math.floor((values.rate * runSec) / jobs)))
}

/**
 * Warms all sides up, then measures them in turn, each first in every other round. A peer that cannot do what is asked is
 * left out, and why is said; where floor or subject cannot, the figure fails.
 */
export const measureFigure = async (figure, settings) => {
  const sides = sidesOf(figure, settings)
  const rig = new Rig(figure, settings)
  const measured = Object.fromEntries(Object.keys(sides).map((name) => [name, []]))
  let peerError
  const run = async (name, count, record) => {
    try {
      const result = await visit(rig, sides[name], count)
      if (record) measured[name].push(result)
    } catch (error) {
      if (name !== "peer") throw error
      peerError = error.message.split("\n")[0]
      delete sides.peer
      // Its sessions may be in any state.
      await rig.stop()
    }
  }
  try {
    const count = await affordable(rig, sides)
    for (let i = 0; i < (figure.warmups ?? 1); i++)
      for (const name of Object.keys(sides)) await run(name, count, false)
    const runs = Math.min(settings.runs, settings.runsGiven ? Infinity : (figure.maxRuns ?? Infinity))
    for (let i = 0; i < runs; i++) {
      const names = Object.keys(sides)
      for (const name of i % 2 === 0 ? names : names.reverse()) await run(name, count, true)
    }
    return { measured, count, peerError }
  } finally {
    await rig.stop()
  }
}
