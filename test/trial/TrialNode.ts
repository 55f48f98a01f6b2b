/** A node of a trial: `arcp serve` as a process, with a wire of its own to Postgres, started again whenever it has ended. */
import { get } from "node:http"
import { setTimeout } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { type Exit, listening, Program } from "../e2e/support/Program.js"
import { TcpProxy } from "../testing/TcpProxy.js"

const file = (name: string): string => fileURLToPath(new URL(name, import.meta.url))

/** Between two times that a load balancer asks whether a node takes work, and how long it waits for the answer. */
const probeMs = 400
const probePatienceMs = 1_500

export interface TrialNodeOptions {
  readonly name: string
  /** Of Postgres, as it is without this node's wire. */
  readonly database: string
  /** Called with each end that nobody has asked for. */
  readonly onExit: (node: TrialNode, exit: Exit, said: string) => void
}

/** Whether this URL is answered with 200 in time. */
const isGood = (url: URL): Promise<boolean> =>
  new Promise((resolve) => {
    const request = get(url, { agent: false, timeout: probePatienceMs }, (response) => {
      response.resume()
      resolve(response.statusCode === 200)
    })
    request.on("timeout", () => request.destroy())
    request.on("error", () => resolve(false))
  })

export class TrialNode {
  /** As a load balancer sees it. */
  isReady = false
  /** How long whoever runs it waits until it starts it again. */
  restartMs = 1_000
  /** What its clock is off by, from the next start on. */
  skewMs = 0
  /** Its ends are what a fault is to bring about. */
  isToEnd = false
  program: Program | undefined
  starts = 0
  private url: URL | undefined
  private isOver = false
  private readonly loops: Array<Promise<void>> = []

  private constructor(
    readonly name: string,
    private readonly options: TrialNodeOptions,
    /** All that it says to Postgres goes through it. */
    readonly wire: TcpProxy
  ) {}

  static async start(options: TrialNodeOptions): Promise<TrialNode> {
    const { hostname, port } = new URL(options.database)
    const wire = await TcpProxy.start({ host: hostname, port: Number(port) })
    const node = new TrialNode(options.name, options, wire)
    process.on("exit", () => node.signal("SIGKILL"))
    node.loops.push(node.run(), node.probe())
    return node
  }

  /** Where a balancer leads to, when it takes work. */
  get target(): { readonly host: string; readonly port: number } | undefined {
    return this.isReady && this.url !== undefined
      ? { host: this.url.hostname, port: Number(this.url.port) }
      : undefined
  }

  signal(name: NodeJS.Signals): void {
    this.program?.signal(name)
  }

  /** Ends it for good, whatever state it is in. */
  async stop(): Promise<void> {
    this.isOver = true
    this.isReady = false
    this.signal("SIGKILL")
    this.wire.passage = "open"
    await Promise.all(this.loops)
    await this.wire.stop()
  }

  /** Starts another one under its name, beside it, and waits for its end. */
  async twin(): Promise<{ readonly exit: Exit; readonly said: string }> {
    const program = new Program(this.args(), {})
    const exit = await program.exited
    return { exit, said: program.stderr }
  }

  private args(): ReadonlyArray<string> {
    const database = new URL(this.options.database)
    database.port = `${this.wire.port}`
    return [
      ...["serve", "--agents", file("agents.mjs"), "--token", "tok-a=alice", "--port", "0"],
      ...["--pg", database.href, "--cluster", "--node", this.name],
      ...["--limit", "shutdownGraceMs=1500", "--log-level", "info"]
    ]
  }

  private async run(): Promise<void> {
    while (!this.isOver) {
      const env =
        this.skewMs === 0
          ? {}
          : { ARCP_TRIAL_SKEW_MS: `${this.skewMs}`, NODE_OPTIONS: `--import=${file("skew.mjs")}` }
      const program = new Program(this.args(), env)
      this.program = program
      this.starts++
      await listening(program).then(
        (url) => {
          this.url = new URL(url.replace(/^ws:/, "http:"))
        },
        () => undefined
      )
      const exit = await program.exited
      this.url = undefined
      this.isReady = false
      if (this.isOver) return
      this.options.onExit(this, exit, program.stderr)
      await setTimeout(this.restartMs)
    }
  }

  private async probe(): Promise<void> {
    while (!this.isOver) {
      const { url } = this
      const isReady = url !== undefined && (await isGood(new URL("/readyz", url)))
      this.isReady = isReady && this.url === url
      await setTimeout(probeMs)
    }
  }
}
