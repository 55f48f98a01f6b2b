import { type ChildProcess, spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterAll, afterEach, beforeAll, expect } from "vitest"
import type { Wire, WireListener } from "./Wire.js"
import { settleClients } from "./WireClient.js"

const program = fileURLToPath(new URL("../../../dist/programs/arcp.js", import.meta.url))
const tokens = ["--token", "tok-a=alice", "--token", "tok-b=bob"]
const secrets = /tok-[ab]\b|rt_[0-9a-f]{64}/

export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/** `arcp` as a child process; its output is collected. */
export class Program {
  stdout = ""
  stderr = ""
  readonly exited: Promise<Exit>
  exit: Exit | undefined
  readonly child: ChildProcess

  constructor(args: ReadonlyArray<string>) {
    const env = { ...process.env }
    for (const name of Object.keys(env)) if (name.startsWith("ARCP_")) delete env[name]
    this.child = spawn(process.execPath, [program, ...args], { env, stdio: ["pipe", "pipe", "pipe"] })
    this.child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      this.stdout += text
    })
    this.child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.stderr += text
    })
    // A program that has already left breaks the pipe; its exit says so.
    this.child.stdin?.on("error", () => {})
    this.exited = new Promise((resolve) => {
      this.child.on("close", (code, signal) => {
        this.exit = { code, signal }
        resolve(this.exit)
      })
    })
  }

  signal(name: NodeJS.Signals): void {
    this.child.kill(name)
  }

  /** Its exit, which must come within `ms`. */
  async leaves(ms = 15_000): Promise<Exit> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`still running after ${ms} ms\n${this.stderr}`)), ms)
    })
    return Promise.race([this.exited, late]).finally(() => clearTimeout(timer))
  }
}

/** Arguments of `arcp serve` with the tokens and agents of this suite. */
export const serveArgs = (args: ReadonlyArray<string>): ReadonlyArray<string> => [
  "serve",
  "--agents",
  "conformance",
  ...tokens,
  ...args
]

/** A program that is expected to refuse its arguments or its surroundings. */
export const runToExit = async (args: ReadonlyArray<string>, ms = 25_000): Promise<Program> => {
  const run = new Program(args)
  run.child.stdin?.end()
  try {
    await run.leaves(ms)
  } finally {
    run.signal("SIGKILL")
  }
  return run
}

/** A running WebSocket runtime on a free port. */
export class Server {
  private constructor(
    readonly program: Program,
    readonly url: string
  ) {}

  static async start(args: ReadonlyArray<string>): Promise<Server> {
    const program = new Program(serveArgs(args.includes("--port") ? args : ["--port", "0", ...args]))
    const url = await new Promise<string>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`not listening after 20 s\n${program.stderr}`)), 20_000)
      const look = () => {
        const line = /^listening (ws:\/\/\S+)\r?\n/.exec(program.stdout)
        if (line?.[1] === undefined) return
        clearTimeout(timer)
        resolve(line[1])
      }
      program.child.stdout?.on("data", look)
      void program.exited.then((exit) => {
        clearTimeout(timer)
        reject(new Error(`left with ${JSON.stringify(exit)} before listening\n${program.stderr}`))
      })
    })
    return new Server(program, url)
  }

  get pid(): number {
    return this.program.child.pid ?? -1
  }

  /** Stops it as an operator does, and checks that no secret reached its output. */
  async stop(): Promise<Exit> {
    this.program.signal("SIGTERM")
    try {
      return await this.program.leaves()
    } finally {
      this.program.signal("SIGKILL")
      expect(this.program.stdout + this.program.stderr).not.toMatch(secrets)
    }
  }

  /** A power cut: no chance to tidy up. */
  async kill(): Promise<void> {
    this.program.signal("SIGKILL")
    await this.program.leaves()
  }
}

interface Sharing {
  /** The tests of the file run at the same time: what they share is tidied up after the last one. */
  readonly concurrent?: boolean
}

/** One server for all tests of a file; every test ends with its clients checked and gone. */
export const sharedServer = (
  args: ReadonlyArray<string>,
  sharing: Sharing = {}
): { readonly url: string; readonly pid: number } => {
  let server: Server | undefined
  beforeAll(async () => {
    // Jobs the tests left running are not worth waiting for.
    server = await Server.start(["--limit", "shutdownGraceMs=100", ...args])
  })
  afterAll(async () => {
    await server?.stop()
  })
  // Hooks of one kind run last first: the clients go before the server.
  const after = sharing.concurrent ? afterAll : afterEach
  after(settleClients)
  const running = () => {
    if (server === undefined) throw new Error("the server is not running")
    return server
  }
  return {
    get url() {
      return running().url
    },
    get pid() {
      return running().pid
    }
  }
}

/** Programs and directories of the tests of a file that need their own, tidied up after each test. */
export const ownServers = (sharing: Sharing = {}) => {
  const programs = new Set<Program>()
  const directories = new Set<string>()
  const after = sharing.concurrent ? afterAll : afterEach
  after(async () => {
    try {
      settleClients()
    } finally {
      for (const program of programs) {
        program.signal("SIGKILL")
        await program.exited
      }
      programs.clear()
      for (const directory of directories) rmSync(directory, { recursive: true, force: true })
      directories.clear()
    }
  })
  return {
    start: async (...args: ReadonlyArray<string>): Promise<Server> => {
      const server = await Server.start(args)
      programs.add(server.program)
      return server
    },
    program: (args: ReadonlyArray<string>): Program => {
      const program = new Program(args)
      programs.add(program)
      return program
    },
    directory: (): string => {
      const directory = mkdtempSync(join(tmpdir(), "arcp-e2e-"))
      directories.add(directory)
      return directory
    }
  }
}

/** Resident memory of a process in MiB (Linux only). */
export const residentMiB = async (pid: number): Promise<number> => {
  const { readFile } = await import("node:fs/promises")
  const status = await readFile(`/proc/${pid}/status`, "utf8")
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024
}

/** A stdio runtime as a transport: one line, one frame. */
export const dialStdio =
  (program: Program) =>
  (listener: WireListener): Promise<Wire> => {
    const { stdin, stdout } = program.child
    let rest = ""
    stdout?.on("data", (text: string) => {
      const lines = (rest + text).split("\n")
      rest = lines.pop() ?? ""
      for (const line of lines) listener.text(line)
    })
    void program.exited.then(({ code }) => listener.closed({ code: code ?? -1, reason: rest }))
    return Promise.resolve({
      send: (text) => stdin?.write(typeof text === "string" ? `${text}\n` : text),
      close: () => stdin?.end(),
      drop: () => stdin?.end(),
      pause: () => stdout?.pause(),
      resume: () => stdout?.resume()
    })
  }
