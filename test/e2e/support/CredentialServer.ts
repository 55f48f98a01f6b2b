import { type ChildProcess, spawn } from "node:child_process"
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { afterAll, afterEach, beforeAll, expect } from "vitest"
import { bundled } from "../../support/bundled.js"
import { type Frame, features } from "./Frame.js"
import { settleClients, WireClient } from "./WireClient.js"

let bundle: Promise<string> | undefined
/** The program as one file: to find its hundreds of modules takes more of a core than all that a test does with it. */
const program = (): Promise<string> => {
  bundle ??= bundled(fileURLToPath(new URL("./credential-server.mjs", import.meta.url)))
  return bundle
}
const worker = new URL("../../../dist/sqlite-worker.js", import.meta.url).href
const running = new Set<CredentialServer>()

export const secretValue = /sk-[0-9a-f]{48}/

/** How upstream behaves; see credential-server.mjs. */
export interface Behaviour {
  readonly mintMs?: number
  readonly answerMs?: number
  readonly failMint?: string
  readonly spendCap?: boolean
  readonly failRevokes?: number
}

/** A runtime that provisions credentials, and what its upstream knows. */
export class CredentialServer {
  stderr = ""
  url = ""
  private stdout = ""
  private known = 0
  private others: ReadonlySet<string> = new Set()
  private readonly exited: Promise<void>

  private constructor(
    readonly directory: string,
    private readonly child: ChildProcess
  ) {
    running.add(this)
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      this.stdout += text
    })
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.stderr += text
    })
    this.exited = new Promise((resolve) => child.on("close", () => resolve()))
  }

  static async start(
    options: {
      readonly directory?: string
      readonly store?: "sql" | "memory"
      readonly limits?: Record<string, number>
    } = {}
  ): Promise<CredentialServer> {
    const directory = options.directory ?? mkdtempSync(join(tmpdir(), "arcp-credentials-"))
    const child = spawn(
      process.execPath,
      [await program(), directory, options.store ?? "sql", JSON.stringify(options.limits ?? {})],
      {
        env: { ...process.env, ARCP_SQLITE_WORKER: worker },
        stdio: ["ignore", "pipe", "pipe"]
      }
    )
    const server = new CredentialServer(directory, child)
    await server.until(() => {
      server.url = /^listening (ws:\/\/\S+)/m.exec(server.stdout)?.[1] ?? ""
      return server.url !== "" || child.exitCode !== null
    })
    if (server.url === "") throw new Error(`did not start\n${server.stderr}`)
    return server
  }

  /** The next start finds what this one left behind. */
  async kill(): Promise<void> {
    this.child.kill("SIGKILL")
    await this.exited
  }

  async stop(): Promise<void> {
    this.child.kill("SIGTERM")
    await this.exited
  }

  again(): Promise<CredentialServer> {
    return CredentialServer.start({ directory: this.directory })
  }

  behave(behaviour: Behaviour): void {
    writeFileSync(join(this.directory, "behaviour.json"), JSON.stringify(behaviour))
  }

  /** Ids of what lives upstream, of this test. */
  get live(): ReadonlyArray<string> {
    const directory = join(this.directory, "live")
    return existsSync(directory) ? readdirSync(directory).filter((id) => !this.others.has(id)) : []
  }

  /** Values of what lives upstream. */
  get values(): ReadonlyArray<string> {
    return this.live.map((id) => readFileSync(join(this.directory, "live", id), "utf8"))
  }

  /** A new test on a server that others have used: what their jobs hold, and their calls, do not count. */
  afresh(): this {
    this.behave({})
    this.others = new Set([...this.others, ...this.live])
    this.known += this.calls.length
    return this
  }

  /** What upstream was asked, in this test. */
  get calls(): ReadonlyArray<{
    readonly call: "mint" | "revoke"
    readonly id: string
    readonly jobId?: string
  }> {
    const path = join(this.directory, "calls.jsonl")
    if (!existsSync(path)) return []
    const lines = readFileSync(path, "utf8").trim().split("\n")
    return lines
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line))
      .slice(this.known)
  }

  /** Upstream has no wake-up call: looks until it is so. */
  async until(condition: () => boolean, ms = 120_000): Promise<void> {
    const deadline = Date.now() + ms
    while (!condition()) {
      if (Date.now() > deadline)
        throw new Error(`not within ${ms} ms; live: ${this.live}\n${this.stderr.slice(-2_000)}`)
      await sleep(20)
    }
  }

  /** Waits until nothing lives upstream. */
  revoked(): Promise<void> {
    return this.until(() => this.live.length === 0)
  }

  /** Everything the runtime wrote to disk, upstream's own files left out. */
  stored(): string {
    return readdirSync(this.directory, { withFileTypes: true })
      .filter((entry) => entry.isFile() && entry.name.startsWith("arcp.db"))
      .map((entry) => readFileSync(join(this.directory, entry.name), "latin1"))
      .join("\n")
  }

  client(options: { readonly token?: string; readonly without?: boolean } = {}): Promise<WireClient> {
    const wanted = options.without ? features : [...features, "provisioned_credentials"]
    return WireClient.open(this.url, { features: wanted, ...(options.token ? { token: options.token } : {}) })
  }
}

const tidy = async (servers: ReadonlyArray<CredentialServer>) => {
  try {
    for (const server of servers) {
      expect(server.stderr).not.toMatch(secretValue)
      expect(secretValue.test(server.stored()), "a secret is on disk").toBe(false)
    }
  } finally {
    for (const server of servers) {
      running.delete(server)
      await server.kill()
    }
    for (const { directory } of servers) rmSync(directory, { recursive: true, force: true })
  }
}

/**
 * One server for the tests of a file, and those that tests start for themselves. None logs or stores a secret, and
 * nothing is left of them.
 */
export const sharedCredentialServer = () => {
  let shared: CredentialServer | undefined
  beforeAll(async () => {
    shared = await CredentialServer.start()
  })
  afterAll(() => tidy([...running]))
  afterEach(async () => {
    try {
      settleClients()
    } finally {
      await tidy([...running].filter((server) => server !== shared))
    }
  })
  return (): CredentialServer => {
    if (shared === undefined) throw new Error("the server is not running")
    return shared.afresh()
  }
}

export interface Credential {
  readonly id: string
  readonly value: string
  readonly [field: string]: unknown
}

/** What makes a job want one credential, or two. */
export const models = { lease_request: { "model.use": ["anthropic/*"] } }
export const two = { lease_request: { "model.use": ["anthropic/*"], "x-vendor.test.second": ["x"] } }
export const credentialsOf = (frame: Frame | undefined) =>
  (frame?.payload["credentials"] ?? []) as ReadonlyArray<Credential>
/** A job that runs on, with what it was given. */
export const hold = async (client: WireClient, more: Record<string, unknown> = models) => {
  const accepted = await client.accept("sleep", { ms: 600_000 }, more)
  await client.next(({ job_id, type }) => job_id === accepted.job_id && type === "job.event")
  return accepted
}
