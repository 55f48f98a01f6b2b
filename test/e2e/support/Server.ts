import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, afterEach, beforeAll, expect, inject } from "vitest"
import { beyond, currentTest } from "../../support/currentTest.js"
import { traits } from "../transports.js"
import { foreignFlag, type LocalRuntime, startLines, startMemory } from "./LocalRuntime.js"
import { dialStdio, type Exit, listening, Program, serveArgs } from "./Program.js"
import { dial, endpoint, type Wire, type WireListener } from "./Wire.js"
import { settleClients } from "./WireClient.js"

export { dialStdio, type Exit, Program, residentMiB, runToExit, serveArgs } from "./Program.js"

const secrets = /tok-[ab]\b|rt_[0-9a-f]{64}/

/** Jobs that the tests left running are not worth waiting for. */
const impatient = (args: ReadonlyArray<string>) => ["--limit", "shutdownGraceMs=100", ...args]

/** A runtime that the suite talks to over the transport of this run; `url` is where `WireClient` finds it. */
export class Server {
  private constructor(
    readonly url: string,
    private readonly behind: Program | LocalRuntime
  ) {}

  /** `env`: what a program finds in its environment. */
  static async start(args: ReadonlyArray<string>, env: NodeJS.ProcessEnv = {}): Promise<Server> {
    switch (inject("transport")) {
      case "websocket": {
        const program = new Program(serveArgs(args.includes("--port") ? args : ["--port", "0", ...args]), env)
        return new Server(await listening(program), program)
      }
      case "stdio": {
        // Two streams are enough for what no flag of the program is asked for: a process takes half a second of a core.
        const behind =
          foreignFlag(args) === undefined
            ? await startLines(impatient(args))
            : new Program(serveArgs(["--transport", "stdio", ...args]))
        let dialled = 0
        const attach = (listener: WireListener): Promise<Wire> => {
          if (++dialled > traits.stdio.connections)
            beyond("it opens a second connection to the same runtime, and over stdio a runtime has one")
          return behind instanceof Program ? dialStdio(behind)(listener) : behind.dial(listener)
        }
        return new Server(endpoint("stdio", attach), behind)
      }
      case "memory": {
        const foreign = foreignFlag(args)
        if (foreign !== undefined) beyond(`${foreign} is the program's; the in-memory pair has no program`)
        const runtime = await startMemory(impatient(args))
        return new Server(endpoint("memory", runtime.dial), runtime)
      }
    }
  }

  /** The process behind it. */
  get program(): Program {
    return this.behind instanceof Program
      ? this.behind
      : beyond("the in-memory pair has no process of its own")
  }

  get pid(): number {
    return this.program.child.pid ?? -1
  }

  /** Stops it as an operator does, and checks that no secret reached its output. */
  async stop(): Promise<Exit> {
    if (!(this.behind instanceof Program)) {
      await this.behind.stop()
      return { code: 0, signal: null }
    }
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

  /** Ends it, whatever state it is in. */
  async discard(): Promise<void> {
    if (!(this.behind instanceof Program)) return this.behind.stop()
    this.behind.signal("SIGKILL")
    await this.behind.exited
  }
}

interface Sharing {
  /** The tests of the file run at the same time: what they share is tidied up after the last one. */
  readonly concurrent?: boolean
}

/** One server for all tests of a file; every test ends with its clients checked and gone. */
const oneServer = (args: ReadonlyArray<string>, sharing: Sharing) => {
  let server: Server | undefined
  beforeAll(async () => {
    server = await Server.start(impatient(args))
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

/** Where a runtime has one connection only: a server for each test, from when it is first dialled. */
const serverOfEach = (args: ReadonlyArray<string>, sharing: Sharing) => {
  const servers = new Map<object, Promise<Server>>()
  const after = sharing.concurrent ? afterAll : afterEach
  after(async () => {
    const started = [...servers.values()]
    servers.clear()
    try {
      settleClients()
    } finally {
      for (const server of started) await (await server).discard()
    }
  })
  const own = (): Promise<Server> => {
    const key = currentTest()?.key
    if (key === undefined) throw new Error("a server for each test is asked for in tests")
    const started = servers.get(key) ?? Server.start(impatient(args))
    servers.set(key, started)
    return started
  }
  const url = endpoint("stdio", async (listener) => dial((await own()).url, listener))
  return {
    url,
    get pid(): number {
      return beyond("it looks at the process before it is started")
    }
  }
}

export const sharedServer = (
  args: ReadonlyArray<string>,
  sharing: Sharing = {}
): { readonly url: string; readonly pid: number } =>
  traits[inject("transport")].connections === 1 ? serverOfEach(args, sharing) : oneServer(args, sharing)

/** Programs and directories of the tests of a file that need their own, tidied up after each test. */
export const ownServers = (sharing: Sharing = {}) => {
  const running = new Set<() => Promise<unknown>>()
  const directories = new Set<string>()
  const started = async (args: ReadonlyArray<string>, env?: NodeJS.ProcessEnv): Promise<Server> => {
    const server = await Server.start(args, env)
    running.add(() => server.discard())
    return server
  }
  const after = sharing.concurrent ? afterAll : afterEach
  after(async () => {
    try {
      settleClients()
    } finally {
      for (const discard of running) await discard()
      running.clear()
      for (const directory of directories) rmSync(directory, { recursive: true, force: true })
      directories.clear()
    }
  })
  return {
    start: (...args: ReadonlyArray<string>): Promise<Server> => started(args),
    startWith: (env: NodeJS.ProcessEnv, ...args: ReadonlyArray<string>): Promise<Server> =>
      started(args, env),
    program: (args: ReadonlyArray<string>): Program => {
      const program = new Program(args)
      running.add(() => {
        program.signal("SIGKILL")
        return program.exited
      })
      return program
    },
    directory: (): string => {
      const directory = mkdtempSync(join(tmpdir(), "arcp-e2e-"))
      directories.add(directory)
      return directory
    }
  }
}
