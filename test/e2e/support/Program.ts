import { type ChildProcess, spawn } from "node:child_process"
import type { Readable, Writable } from "node:stream"
import { fileURLToPath } from "node:url"
import { beyond } from "../../support/currentTest.js"
import { textOnly, type Wire, type WireListener } from "./Wire.js"

const program = fileURLToPath(new URL("../../../dist/programs/arcp.js", import.meta.url))
const tokens = ["--token", "tok-a=alice", "--token", "tok-b=bob"]

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

  /** `extra`: environment variables, `undefined` for those that it is not to have. */
  constructor(args: ReadonlyArray<string>, extra: NodeJS.ProcessEnv = {}, cwd?: string) {
    const env = { ...process.env }
    for (const name of Object.keys(env)) if (name.startsWith("ARCP_")) delete env[name]
    Object.assign(env, extra)
    this.child = spawn(process.execPath, [program, ...args], { cwd, env, stdio: ["pipe", "pipe", "pipe"] })
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
  async leaves(ms = 60_000): Promise<Exit> {
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
export const runToExit = async (args: ReadonlyArray<string>, ms = 60_000): Promise<Program> => {
  const run = new Program(args)
  run.child.stdin?.end()
  try {
    await run.leaves(ms)
  } finally {
    run.signal("SIGKILL")
  }
  return run
}

/** Starts `arcp serve` on a free port; gives its address once it listens. */
export const listening = (program: Program): Promise<string> =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`not listening after 120 s\n${program.stderr}`)), 120_000)
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

/** Resident memory of a process in MiB (Linux only). */
export const residentMiB = async (pid: number): Promise<number> => {
  const { readFile } = await import("node:fs/promises")
  const status = await readFile(`/proc/${pid}/status`, "utf8")
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024
}

interface Lines {
  readonly stdin: Writable | null
  readonly stdout: Readable | null
  /** How it ended: nothing comes from it any more. */
  readonly exited: Promise<{ readonly code: number | null }>
}

/** Two streams of a runtime as a transport: one line, one frame. */
export const dialLines =
  ({ exited, stdin, stdout }: Lines) =>
  (listener: WireListener): Promise<Wire> => {
    let rest = ""
    stdout?.setEncoding("utf8").on("data", (text: string) => {
      const lines = (rest + text).split("\n")
      rest = lines.pop() ?? ""
      for (const line of lines) listener.text(line)
    })
    void exited.then(({ code }) => listener.closed({ code: code ?? -1, reason: rest }))
    return Promise.resolve({
      send: (text) =>
        text === ""
          ? beyond("it sends an empty frame, and over stdio an empty line is none")
          : stdin?.write(`${textOnly(text)}\n`),
      close: () => stdin?.end(),
      drop: () => stdin?.end(),
      pause: () => stdout?.pause(),
      resume: () => stdout?.resume()
    })
  }

/** A program that speaks over its stdin and stdout, as a transport. */
export const dialStdio = ({ child, exited }: Program): ((listener: WireListener) => Promise<Wire>) =>
  dialLines({ stdin: child.stdin, stdout: child.stdout, exited })
