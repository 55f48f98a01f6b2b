/** `arcp serve` and agents that let go of what fails, that throw, and that need what it does not have. */
import { once } from "node:events"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterAll, afterEach, expect, it } from "vitest"
import { Program } from "../e2e/support/Program.js"
import { dialStdio } from "../e2e/support/Server.js"
import { settleClients, WireClient } from "../e2e/support/WireClient.js"
import { run, serving } from "./cli/inProcess.js"

const strays = fileURLToPath(new URL("../e2e/support/stray-agents.mjs", import.meta.url))
const imported = fileURLToPath(new URL("../../.ci/agents.mjs", import.meta.url))
const root = new URL("../../dist/index.js", import.meta.url).href
const folder = mkdtempSync(join(tmpdir(), "arcp-serve-"))
afterAll(() => rmSync(folder, { recursive: true }))

const programs: Array<Program> = []
afterEach(async () => {
  for (const program of programs.splice(0)) {
    program.signal("SIGKILL")
    await program.exited
  }
})

const serve = (...args: ReadonlyArray<string>) => {
  const program = new Program(["serve", "--memory", "--port", "0", "--token", "tok-a=alice", ...args])
  programs.push(program)
  return program
}

/** Its address, after whatever its agents have printed while they were loaded. */
const listening = (program: Program): Promise<string> =>
  new Promise((resolve, reject) => {
    const look = () => {
      const found = /^listening (ws:\/\/\S+)$/m.exec(program.stdout)?.[1]
      if (found !== undefined) resolve(found)
    }
    program.child.stdout?.on("data", look)
    look()
    void program.exited.then((exit) =>
      reject(new Error(`left with ${JSON.stringify(exit)}\n${program.stderr}`))
    )
  })

/** The same without a process, which takes most of a second of a core: for what is the same in one. Gives what it printed. */
const servingHere = async (use: (url: string) => Promise<void>, ...args: ReadonlyArray<string>) => {
  let printed = ""
  await serving(
    ["--memory", "--token", "tok-a=alice", ...args],
    async (url) => {
      await use(url)
      settleClients()
    },
    (text) => {
      printed += text
    }
  )
  return printed
}

let modules = 0
/** A module of agents, with what it needs of this package and of Effect. */
const module = (text: string) => {
  const file = join(folder, `agents-${++modules}.mjs`)
  const installed = (name: string) =>
    new URL(`../../node_modules/${name}/dist/esm/index.js`, import.meta.url).href
  const [effect, platform] = [installed("effect"), installed("@effect/platform")]
  writeFileSync(
    file,
    `import { Agent, Job, Lease } from ${JSON.stringify(root)}
import { Context, Effect, Layer } from ${JSON.stringify(effect)}
import { HttpClient } from ${JSON.stringify(platform)}
class Clockwork extends Context.Tag("test/Clockwork")() {}
${text}`
  )
  return file
}

/** Lines of the log that hold all of these. */
const lines = (program: Program, ...parts: ReadonlyArray<string>) =>
  program.stderr.split("\n").filter((line) => parts.every((part) => line.includes(part)))

it("a rejection that nobody waits for is logged with its job, and the server goes on", async () => {
  const program = serve("--agents", strays)
  const client = await WireClient.open(await listening(program))
  const { terminal } = await client.run("stray", {})
  expect(terminal.payload.result).toBe("went on")
  expect((await client.run("stray", {})).terminal.payload.result).toBe("went on")
  program.signal("SIGTERM")
  expect((await program.leaves()).code).toBe(0)
  for (const reason of ["a promise that nobody waits for", "no error at all"])
    expect(
      lines(program, "level=ERROR", reason, `job=${terminal.job_id}`, "agent=stray@1.0.0").length
    ).toBeGreaterThan(0)
})

it("of rejections by the thousand some are logged, and how many more there were", async () => {
  const program = serve("--agents", strays)
  const client = await WireClient.open(await listening(program))
  const { terminal } = await client.run("flood", 5_000)
  expect(terminal.payload.result).toBe("went on")
  await expect
    .poll(() => lines(program, "more errors within a second", `job=${terminal.job_id}`).length, {
      timeout: 60_000
    })
    .toBeGreaterThan(0)
  program.signal("SIGTERM")
  expect((await program.leaves()).code).toBe(0)
  const whole = lines(program, "nobody waits for", `job=${terminal.job_id}`).length
  expect(whole).toBeGreaterThan(0)
  // Ten in a second, however many of those it took.
  expect(whole).toBeLessThan(500)
})

it("an agent that calls process.exit ends its own job; what cannot be read is logged all the same", async () => {
  const program = serve("--agents", strays)
  const client = await WireClient.open(await listening(program))
  const quit = await client.run("quitter", {})
  expect(quit.terminal.payload).toMatchObject({ code: "INTERNAL_ERROR", final_status: "error" })
  const poison = await client.run("poison", {})
  expect(poison.terminal.payload.result).toBe("went on")
  program.signal("SIGTERM")
  expect((await program.leaves()).code).toBe(0)
  expect(lines(program, "level=ERROR", "process.exit()", `job=${quit.terminal.job_id}`).length).toBe(2)
  expect(lines(program, "level=ERROR", "nobody waits for", `job=${poison.terminal.job_id}`).length).toBe(7)
  expect(program.stderr.length).toBeLessThan(100_000)
})

/** What agents may do to the standard streams that they see: those of one process leave each other's streams alone. */
const vandals = [
  ["process.stdout.end('last words')", "process.stderr.end(() => {})", "process.stdin.destroy()"],
  [
    "process.stdout.destroy()",
    "process.stderr.destroy(new Error('broken'))",
    "process.stdin.on('data', () => {}).pause()"
  ],
  ["process.stderr.emit('error', Object.assign(new Error('made up'), { code: 'EPIPE' }))"]
].map((codes) => [codes.join(", "), codes] as const)
const vandal = (codes: ReadonlyArray<string>) =>
  module(`export const agents = [
  ${codes
    .map(
      (code, i) =>
        `Agent.fromPromise("vandal-${i}", { version: "1.0.0" }, async () => { ${code}; return "done" }),`
    )
    .join("\n  ")}
  Agent.fromPromise("echo", { version: "1.0.0" }, async (input) => { console.log("echoing"); return input })
]`)

/** Has each do what it does; the server goes on after each. Returns the jobs that have ended after one. */
const vandalised = async (client: WireClient, codes: ReadonlyArray<string>) => {
  const jobs: Array<string> = []
  for (const [i, code] of codes.entries()) {
    expect((await client.run(`vandal-${i}`, {})).terminal.payload.result, code).toBe("done")
    const { terminal } = await client.run("echo", "still here")
    expect(terminal.payload.result, code).toBe("still here")
    jobs.push(String(terminal.job_id))
  }
  return jobs
}

it.each(vandals)("an agent does %s, and the server goes on, its log too", async (_, codes) => {
  const program = serve("--agents", vandal(codes))
  const jobs = await vandalised(await WireClient.open(await listening(program)), codes)
  program.signal("SIGTERM")
  expect((await program.leaves()).code).toBe(0)
  for (const job of jobs) expect(lines(program, "job ended", `job=${job}`)).toHaveLength(1)
})

it.each(vandals)("the same over stdio: %s", async (_, codes) => {
  const program = serve("--transport", "stdio", "--agents", vandal(codes))
  const client = await WireClient.over(dialStdio(program))
  await client.hello({ token: "tok-a" })
  const jobs = await vandalised(client, codes)
  program.child.stdin?.end()
  expect((await program.leaves()).code).toBe(0)
  for (const job of jobs) expect(lines(program, "job ended", `job=${job}`)).toHaveLength(1)
  expect(lines(program, "echoing")).toHaveLength(jobs.length)
})

it("a server whose log nobody reads any more goes on", async () => {
  const program = serve("--agents", strays)
  const client = await WireClient.open(await listening(program))
  program.child.stderr?.destroy()
  for (let i = 0; i < 3; i++) expect((await client.run("stray", {})).terminal.payload.result).toBe("went on")
  program.signal("SIGTERM")
  expect((await program.leaves()).code).toBe(0)
})

it("a server on stdio whose output nobody reads any more leaves, with its input open and nothing to say", async () => {
  const program = serve("--transport", "stdio", "--shutdown-grace-ms", "0", "--agents", "conformance")
  const client = await WireClient.over(dialStdio(program))
  await client.hello({ token: "tok-a" })
  await client.accept("sleep", { ms: 600_000 })
  program.child.stdout?.destroy()
  expect((await program.leaves()).code).toBe(0)
})

it.each(["logfmt", "json", "pretty"])("no message forges an entry of the log as %s", async (format) => {
  const program = serve("--agents", strays, "--log-format", format)
  const client = await WireClient.open(await listening(program))
  await client.run("forger", {})
  program.signal("SIGTERM")
  await program.leaves()
  expect(program.stderr).toContain("session opened by admin")
  for (const line of program.stderr.split("\n")) expect(line).not.toMatch(/^(timestamp=1 |\[00:00:00)/)
})

it("an error that nothing catches shuts the server down, with the ends of the jobs, a message and exit code 1", async () => {
  const program = serve("--agents", strays, "--shutdown-grace-ms", "100")
  const client = await WireClient.open(await listening(program))
  const { job_id } = await client.accept("bomb", {})
  expect((await client.terminal(job_id)).payload.details).toEqual({ reason: "runtime_restart" })
  expect((await client.nextOf("session.bye")).payload["reason"]).toBe("shutdown")
  expect((await program.leaves()).code).toBe(1)
  expect(lines(program, "level=ERROR", "thrown in a timer", `job=${job_id}`).length).toBeGreaterThan(0)
  expect(program.stderr).toMatch(/^error: an error was thrown that nothing catches \(thrown in a timer\)/m)
})

it("what an agent throws is in the log, and one line says what becomes of everything", async () => {
  const program = serve("--agents", strays, "--log-format", "json")
  const client = await WireClient.open(await listening(program))
  const { terminal } = await client.run("thrower", {})
  expect(JSON.stringify(terminal)).not.toContain("broken")
  const refused = await WireClient.open(await listening(program), { token: "nobody-knows-it" }).catch(
    () => "refused"
  )
  expect(refused).toBe("refused")
  program.signal("SIGTERM")
  await program.leaves()
  const log = program.stderr
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line))
  const failed = log.find(({ logLevel }) => logLevel === "ERROR")
  expect(failed.annotations).toMatchObject({
    job: terminal.job_id,
    agent: "thrower@1.0.0",
    principal: "alice"
  })
  for (const part of ["broken", "stray-agents.mjs", "the deeper reason"])
    expect(JSON.stringify(failed)).toContain(part)
  const said = log.map(({ logLevel, message }) => `${logLevel} ${message}`)
  const told = [
    /^INFO arcp \S+ starts/,
    /^INFO listening on ws:/,
    /^INFO session opened over websocket/,
    /^INFO job started/,
    /^INFO job ended: error after \d+ ms/,
    /^WARN a login was refused/,
    /^INFO shutting down/,
    /^INFO session disconnected/,
    /^INFO arcp has stopped/
  ]
  for (const line of told) expect(said.filter((text) => line.test(text))).toHaveLength(1)
  const login = log.find(({ message }) => String(message).startsWith("a login was refused"))
  expect(login.annotations).toMatchObject({ reason: "the token is none of the table", scheme: "bearer" })
  expect(program.stderr).not.toContain("nobody-knows-it")
})

it("above INFO nothing of that is logged; pretty is for people", async () => {
  const quiet = await servingHere(
    async (url) => void (await (await WireClient.open(url)).run("echo", 1)),
    ...["--agents", "conformance", "--log-level", "warning"]
  )
  expect(quiet).toMatch(/^listening ws:\S+\nconsole http:\S+\n$/)
  const pretty = serve("--agents", "conformance", "--log-format", "pretty")
  await listening(pretty)
  pretty.signal("SIGTERM")
  await pretty.leaves()
  expect(pretty.stderr).toMatch(/^\[[\d:.]+\] INFO: listening on ws:/m)
  // Where it listens, and where its console is.
  expect(pretty.stdout).toMatch(/^listening ws:\S+\nconsole http:\S+\n$/)
})

it("agents get a leased HttpClient, and what their module exports as layer", async () => {
  const file = module(`
export const layer = Layer.effect(Clockwork, Effect.as(HttpClient.HttpClient, { tick: "tock" }))
export const agents = [
  Agent.handle(Agent.make("ticks", { version: "1.0.0" }), () => Effect.map(Clockwork, ({ tick }) => tick), { requires: [Clockwork, HttpClient.HttpClient] }),
  Agent.handle(Agent.make("fetches", { version: "1.0.0" }), () =>
    Effect.flatMap(HttpClient.HttpClient, (http) => http.get("http://127.0.0.1:1/x")))
]`)
  await servingHere(
    async (url) => {
      const client = await WireClient.open(url)
      expect((await client.run("ticks", {})).terminal.payload.result).toBe("tock")
      expect((await client.run("fetches", {})).terminal.payload.code).toBe("PERMISSION_DENIED")
    },
    "--agents",
    file
  )
})

it("agents of a module without a layer reach public addresses only, and what their lease names", async () => {
  const inside = createServer((_, response) => response.end("inside")).listen(0, "127.0.0.1")
  await once(inside, "listening")
  const { port } = inside.address() as AddressInfo
  const file = module(`
export const agents = [Agent.handle(Agent.make("fetches", { version: "1.0.0" }), () =>
  HttpClient.HttpClient.pipe(
    Effect.flatMap((http) => http.get("http://localhost:${port}/x")),
    Effect.flatMap((response) => response.text),
    Effect.catchAll((error) => Effect.succeed(String(error.cause)))
  ))]`)
  await servingHere(
    async (url) => {
      const client = await WireClient.open(url)
      const fetched = async (pattern: string) => {
        const { terminal } = await client.run("fetches", {}, { lease_request: { "net.fetch": [pattern] } })
        return terminal.payload.result
      }
      expect(await fetched(`http://*:${port}/**`)).toMatch(/not public/)
      expect(await fetched(`http://localhost:${port}/**`)).toBe("inside")
    },
    "--agents",
    file
  )
  inside.close()
})

it("agents of a module run on the copies of this package and of Effect that it imports", async () => {
  const client = await WireClient.open(await listening(serve("--agents", imported)))
  const { terminal } = await client.run("copies", {})
  expect(terminal.payload.result).toEqual({
    job: true,
    files: "SystemError",
    errors: true,
    effect: true
  })
})

it("what an agent throws is logged with the place in its module", async () => {
  const program = serve("--agents", imported)
  const client = await WireClient.open(await listening(program))
  await client.run("thrower", {})
  program.signal("SIGTERM")
  await program.leaves()
  expect(program.stderr).toMatch(/thrown by an agent[\s\S]*\.ci\/agents\.mjs:\d+/)
})

const unserved: ReadonlyArray<readonly [string, string, RegExp]> = [
  [
    "a service that an agent says it requires",
    `export const agents = [Agent.handle(Agent.make("a", { version: "1.0.0" }), () => Clockwork, { requires: [Job.Job, Clockwork] })]`,
    /agent a@1\.0\.0 needs test\/Clockwork, which nothing provides/
  ],
  [
    "a service that the module's layer needs",
    `export const layer = Layer.effectDiscard(Clockwork)
export const agents = [Agent.fromPromise("a", { version: "1.0.0" }, () => 1)]`,
    /its layer needs test\/Clockwork, which arcp serve does not have/
  ],
  [
    "a layer that fails",
    `export const layer = Layer.effectDiscard(Effect.fail(new Error("no database")))
export const agents = [Agent.fromPromise("a", { version: "1.0.0" }, () => 1)]`,
    /its layer could not be built: no database/
  ]
]
it.each(unserved)("at start, by name: %s", async (_, text, message) => {
  const { code, stderr } = await run([
    "serve",
    "--memory",
    "--port",
    "0",
    "--token",
    "t=a",
    "--agents",
    module(text)
  ])
  expect(stderr).toMatch(message)
  expect(stderr).not.toContain("file:///")
  expect(code).toBe(1)
})

it("a service that is missing only when a job asks for it is named to the client", async () => {
  const file = module(`
export const agents = [Agent.handle(Agent.make("a", { version: "1.0.0" }), () => Clockwork)]`)
  await servingHere(
    async (url) => {
      const client = await WireClient.open(url)
      const { payload } = (await client.run("a", {})).terminal
      expect(payload.message).toBe("the agent needs test/Clockwork, which this runtime does not have")
    },
    "--agents",
    file
  )
})

it("the thread that writes dies: a message, exit code 1, and what was told is there at the next start", async () => {
  const agents = module(`
    import { syncBuiltinESMExports } from "node:module"
    import workers from "node:worker_threads"
    // The one of the file is begun before agents are loaded.
    const begun = globalThis[Symbol.for("effect-arcp/sqlite-worker")]
    const threads = begun === undefined ? [] : [begun.worker]
    workers.Worker = class extends workers.Worker {
      constructor(...args) {
        super(...args)
        threads.push(this)
      }
    }
    syncBuiltinESMExports()
    export const agents = [
      Agent.fromPromise("echo", { version: "1.0.0" }, async (input) => input),
      Agent.fromPromise("cut", { version: "1.0.0" }, async () => {
        for (const thread of threads) await thread.terminate()
        return threads.length
      })
    ]`)
  const db = join(folder, "cut", "arcp.db")
  const start = () => {
    // It does not wait for jobs whose ends it could not store.
    const grace = ["--shutdown-grace-ms", "600000"]
    const args = ["--db", db, "--port", "0", "--token", "tok-a=alice", "--agents", agents, ...grace]
    const program = new Program(["serve", ...args])
    programs.push(program)
    return program
  }
  const program = start()
  const client = await WireClient.open(await listening(program))
  const { terminal } = await client.run("echo", "kept")
  const cut = await client.accept("cut", {})
  expect(await program.leaves(60_000)).toEqual({ code: 1, signal: null })
  expect(program.stderr).toContain(`the thread that writes to ${db} has died`)
  expect(program.stderr).toMatch(/^error: .*must be restarted/m)
  const next = await WireClient.resume(await listening(start()), client.session, { from: 0 })
  expect((await next.terminal(terminal.job_id)).payload.result).toBe("kept")
  expect((await next.terminal(cut.job_id)).payload).toMatchObject({ details: { reason: "runtime_restart" } })
})
