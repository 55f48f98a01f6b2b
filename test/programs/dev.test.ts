/** `arcp dev`: agents are loaded anew when they are saved, and jobs that have begun keep theirs. */
import { type ChildProcess, execFile, spawn } from "node:child_process"
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync
} from "node:fs"
import { tmpdir } from "node:os"
import { delimiter, join } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { asCode, asCommand } from "../../src/programs/console/model/copies.js"

const root = fileURLToPath(new URL("../..", import.meta.url))
const program = join(root, "dist/programs/arcp.js")

const agents = `
import { existsSync } from "node:fs"
import { setTimeout as pause } from "node:timers/promises"
import { Agent } from "effect-arcp"
import { word } from "./word.ts"

interface Wait { readonly until?: string }
export const agents = [
  Agent.fromPromise("hello", { version: "1.0.0" }, async (input: Wait) => {
    while (input.until !== undefined && !existsSync(input.until)) await pause(20)
    return word as string
  }),
  Agent.fromPromise("echo", { version: "1.0.0" }, async (input: unknown, job) => ({ input, lease: job.lease })),
  Agent.fromPromise("broken", { version: "1.0.0" }, async () => {
    throw new Error("db is down")
  })
]
`
const word = (text: string) => `export const word: string = ${text}\n`

/** A line that says so, and for that reason: one save may be noticed twice, and be said twice. */
const notLoaded = (why: RegExp) => new RegExp(`^not loaded.*(?:${why.source})`, why.flags)

describe("arcp dev", () => {
  const folder = mkdtempSync(join(tmpdir(), "arcp-dev-"))
  const path = `${join(folder, "bin")}${delimiter}${process.env["PATH"]}`
  let server: ChildProcess
  let url = ""
  let console_ = ""
  const lines: Array<string> = []
  let heard = () => {}

  /** Waits for a line of the server's that says so. */
  const said = async (what: RegExp): Promise<string> => {
    for (;;) {
      const at = lines.findIndex((line) => what.test(line))
      if (at >= 0) return lines.splice(0, at + 1).at(-1) ?? ""
      await new Promise<void>((resolve) => {
        heard = resolve
      })
    }
  }
  const run = async (...words: ReadonlyArray<string>) => {
    const { stdout } = await promisify(execFile)(process.execPath, [
      program,
      ...words,
      "--url",
      url,
      "--token",
      "t"
    ])
    return stdout.trim()
  }

  beforeAll(async () => {
    mkdirSync(join(folder, "node_modules"))
    for (const name of ["effect", "esbuild"])
      symlinkSync(join(root, "node_modules", name), join(folder, "node_modules", name))
    symlinkSync(root, join(folder, "node_modules/effect-arcp"))
    writeFileSync(join(folder, "package.json"), '{"type":"module"}')
    writeFileSync(join(folder, "agents.ts"), agents)
    writeFileSync(join(folder, "word.ts"), word('"one"'))
    // What opens a page on a desktop, and the command of the package.
    mkdirSync(join(folder, "bin"))
    writeFileSync(
      join(folder, "bin/xdg-open"),
      `#!/bin/sh\nprintf %s "$1" > '${folder}/opened.part'\nmv '${folder}/opened.part' '${folder}/opened'\n`
    )
    writeFileSync(join(folder, "bin/arcp"), `#!/bin/sh\nexec '${process.execPath}' '${program}' "$@"\n`)
    for (const name of ["xdg-open", "arcp"]) chmodSync(join(folder, "bin", name), 0o755)
    server = spawn(
      process.execPath,
      [program, "dev", "./agents.ts", "--open", "--port", "0", "--token", "t=me"],
      { cwd: folder, env: { ...process.env, PATH: path }, stdio: ["ignore", "pipe", "pipe"] }
    )
    for (const stream of [server.stdout, server.stderr])
      if (stream !== null)
        createInterface({ input: stream }).on("line", (line) => {
          lines.push(line)
          heard()
        })
    url = (await said(/^listening /)).slice("listening ".length)
    console_ = (await said(/^console http/)).slice("console ".length)
  })
  afterAll(() => {
    server?.kill()
    rmSync(folder, { recursive: true, force: true })
  })

  it("loads what is saved, also what the file imports; a job that has begun keeps its agent", async () => {
    const until = join(folder, "go")
    const waits = run("submit", "hello", "--input", JSON.stringify({ until }))
    await said(/job started/)
    writeFileSync(join(folder, "word.ts"), word('"two"'))
    await said(/^loaded anew: hello@1\.0\.0/)
    assert.strictEqual(await run("submit", "hello"), "two")
    writeFileSync(until, "")
    assert.strictEqual(await waits, "one")
  })

  it("says what is wrong with what is saved, and goes on with what there was", async () => {
    writeFileSync(join(folder, "word.ts"), "export const word: string =\n")
    await said(notLoaded(/word\.ts|expression/i))
    assert.strictEqual(await run("submit", "hello"), "two")
    writeFileSync(join(folder, "word.ts"), word('"three"'))
    await said(/^loaded anew/)
    assert.strictEqual(await run("submit", "hello"), "three")
  })

  it("what an agent throws is told to who submits, and is in a log for people", async () => {
    const failed = await run("submit", "broken").catch((error: { readonly stderr: string }) => error.stderr)
    assert.match(failed, /^error: INTERNAL_ERROR: db is down$/m)
    await said(/^\[\d\d:\d\d:\d\d\.\d{3}\] ERROR: agent broken@1\.0\.0 failed in job_/)
    await said(/^ {2}Error: db is down$/)
    await said(/^ {2} +at .*agents\.ts/)
  })

  it.each([
    ["--limit", "revealFailures=false"],
    ["--host", "0.0.0.0", "--allow-insecure"]
  ])("what an agent throws is not told with %s %s", async (...flags) => {
    const args = ["dev", "./agents.ts", "--memory", "--port", "0", "--token", "t=me", "--json", ...flags]
    const other = spawn(process.execPath, [program, ...args], {
      cwd: folder,
      stdio: ["ignore", "pipe", "pipe"]
    })
    try {
      const lines = createInterface({ input: other.stderr })
      const logged: Array<string> = []
      lines.on("line", (line) => logged.push(line))
      for await (const line of createInterface({ input: other.stdout })) {
        const { listening } = JSON.parse(line) as { readonly listening: string }
        const at = listening.replace("0.0.0.0", "127.0.0.1")
        const submitted = () =>
          promisify(execFile)(process.execPath, [
            ...[program, "submit", "broken", "--url", at, "--token", "t"]
          ]).catch((error: { readonly stderr: string }) => error)
        let failed = await submitted()
        // On a busy machine it listens before its agents are loaded, and says so.
        while (/AGENT_NOT_AVAILABLE/.test(failed.stderr)) failed = await submitted()
        assert.match(failed.stderr, /the agent failed; the runtime's log says why/)
        assert.notInclude(failed.stderr, "db is down")
        break
      }
      // With --json, the log is JSON too. What is said of files that are loaded is for people in any case.
      const log = logged.filter(
        (line) => !/^(the agents are not loaded within| {2}|not loaded|loaded anew)/.test(line)
      )
      assert.doesNotThrow(() => log.map((line) => JSON.parse(line)))
      assert.isNotEmpty(log)
    } finally {
      other.kill()
    }
  })

  it("arcp serve reads what arcp dev does: TypeScript, also behind JavaScript", async () => {
    const behind = join(folder, "behind.mjs")
    writeFileSync(behind, 'export * from "./agents.ts"\n')
    for (const module of ["./agents.ts", behind]) {
      const args = ["serve", "--agents", module, "--memory", "--port", "0"]
      const server = spawn(process.execPath, [program, ...args], {
        cwd: folder,
        stdio: ["ignore", "pipe", "pipe"]
      })
      let text = ""
      try {
        for await (const data of server.stdout) {
          text += data
          if (/^listening ws/m.test(text)) break
        }
        assert.match(text, /^listening ws/m, module)
      } finally {
        server.kill("SIGKILL")
      }
    }
  })

  it.runIf(process.platform === "linux")("opens the console with --open", async () => {
    const opened = join(folder, "opened")
    while (!existsSync(opened)) await new Promise((resolve) => setTimeout(resolve, 20))
    assert.strictEqual(readFileSync(opened, "utf8"), console_)
  })

  it("takes a file as editors save it, one that throws, one that is gone, and one that is not there yet", async () => {
    const file = join(folder, "word.ts")
    writeFileSync(file, 'throw new Error("not today")\nexport const word = ""\n')
    await said(notLoaded(/not today/))
    rmSync(file)
    await said(notLoaded(/word\.ts/))
    writeFileSync(`${file}.swp`, word('"renamed"'))
    renameSync(`${file}.swp`, file)
    await said(/^loaded anew/)
    assert.strictEqual(await run("submit", "hello"), "renamed")
    writeFileSync(file, 'export { word } from "./later/word.ts"\n')
    await said(notLoaded(/later/))
    mkdirSync(join(folder, "later"))
    writeFileSync(join(folder, "later/word.ts"), word('"later"'))
    await said(/^loaded anew/)
    writeFileSync(join(folder, "later/word.ts"), 'export { word } from "./more.ts"\n')
    await said(notLoaded(/more/))
    writeFileSync(join(folder, "later/more.ts"), word('"more"'))
    await said(/^loaded anew/)
    assert.strictEqual(await run("submit", "hello"), "more")
    rmSync(join(folder, "later"), { recursive: true })
    await said(/^not loaded/)
    mkdirSync(join(folder, "later"))
    writeFileSync(join(folder, "later/word.ts"), word('"again"'))
    await said(/^loaded anew/)
    assert.strictEqual(await run("submit", "hello"), "again")
  })

  it("is loaded a few times when it is saved fifty times, and the last counts", async () => {
    const file = join(folder, "later/word.ts")
    for (let i = 0; i < 50; i++) {
      writeFileSync(file, word(`"save ${i}"`))
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    let loads = 0
    do {
      await said(/^loaded anew/)
      loads++
    } while ((await run("submit", "hello")) !== "save 49")
    assert.isAtMost(loads, 25)
  })

  it("runs what the console copies, whatever is in it", async () => {
    const input = {
      text: `it's "quoted" $(false) \`false\` \\ \n two lines \u2028 <!-- </script>`,
      ["-x"]: ["é", null]
    }
    const submission = {
      agent: "echo@1.0.0",
      input,
      lease: { "fs.read": ["/src/it's/**"], "cost.budget": ["USD:1.50"] },
      expiresIn: "10m",
      maxRuntimeSec: 30,
      key: ""
    }
    const env = { ...process.env, PATH: path, ARCP_TOKEN: "t" }
    const command = await promisify(execFile)(
      "bash",
      ["-c", asCommand({ ...submission, key: "a 'key'" }, url)],
      {
        cwd: folder,
        env
      }
    )
    const expected = { input, lease: submission.lease }
    assert.deepStrictEqual(JSON.parse(command.stdout), expected)
    writeFileSync(
      join(folder, "copied.mjs"),
      asCode(submission, url).replace(
        "console.log(await job.result)",
        "console.log(JSON.stringify(await job.result))"
      )
    )
    const code = await promisify(execFile)(process.execPath, ["copied.mjs"], { cwd: folder, env })
    assert.deepStrictEqual(JSON.parse(code.stdout.trim().split("\n").at(-1) ?? ""), expected)
  })
})

describe("arcp dev, when the agents do not load at first", () => {
  const folder = mkdtempSync(join(tmpdir(), "arcp-dev-first-"))
  const lines: Array<string> = []
  let heard = () => {}
  let server: ChildProcess
  let url = ""
  const file = join(folder, "agents.mjs")
  const said = async (what: RegExp): Promise<string> => {
    for (;;) {
      const at = lines.findIndex((line) => what.test(line))
      if (at >= 0) return lines.splice(0, at + 1).at(-1) ?? ""
      await new Promise<void>((resolve) => {
        heard = resolve
      })
    }
  }
  const hello = (word: string) =>
    `import { Agent } from "effect-arcp"\n` +
    `export const agents = [Agent.fromPromise("hello", { version: "1.0.0" }, async () => ${JSON.stringify(word)})]\n`
  const loads = async (token = "t") => {
    const response = await fetch(new URL("/console/loads", url.replace(/^ws/, "http")), {
      headers: { authorization: `Bearer ${token}` }
    })
    return [response.status, (await response.json()) as { times: number; problem?: string }] as const
  }
  const run = async (...words: ReadonlyArray<string>) => {
    const { stdout } = await promisify(execFile)(process.execPath, [
      program,
      ...words,
      "--url",
      url,
      "--token",
      "t"
    ])
    return stdout.trim()
  }
  /** Saves, as an editor does or as another, and waits for what is said. */
  const save = async (text: string, what: RegExp) => {
    writeFileSync(file, text)
    return said(what)
  }

  beforeAll(async () => {
    mkdirSync(join(folder, "node_modules"))
    symlinkSync(join(root, "node_modules/effect"), join(folder, "node_modules/effect"))
    symlinkSync(root, join(folder, "node_modules/effect-arcp"))
    writeFileSync(join(folder, "package.json"), '{"type":"module"}')
    server = spawn(
      process.execPath,
      // One line for each entry, whatever is in it.
      [
        program,
        "dev",
        "./agents.mjs",
        "--memory",
        "--port",
        "0",
        "--token",
        "t=me",
        "--log-format",
        "logfmt"
      ],
      { cwd: folder, stdio: ["ignore", "pipe", "pipe"] }
    )
    for (const stream of [server.stdout, server.stderr])
      if (stream !== null)
        createInterface({ input: stream }).on("line", (line) => {
          lines.push(line)
          heard()
        })
    assert.match(
      await said(/^not loaded/),
      /there are no agents yet: \.\/agents\.mjs does not load: .*no such file/
    )
    url = (await said(/^listening /)).slice("listening ".length)
  })
  afterAll(() => {
    server?.kill()
    rmSync(folder, { recursive: true, force: true })
  })

  it("stays, says why and where, to the console too, and loads what is saved then", async () => {
    assert.strictEqual((await loads("another"))[0], 401)
    assert.deepInclude((await loads())[1], { times: 0 })
    assert.match((await loads())[1].problem ?? "", /no such file/)
    assert.strictEqual(await run("agents"), "")
    const wrong: ReadonlyArray<readonly [string, RegExp]> = [
      ["const a = 1\nexport const agents = [\n  a +\n]\n", /Unexpected token '\]' \(agents\.mjs:4\)/],
      ["const a = 1\n\nthrow new Error('not today')\n", /not today \(agents\.mjs:3:7\)/],
      ["throw 'no error'\n", /no error/],
      ["export const nothing = 1\n", /must export agents, for example/],
      ["export const agents = [{}]\n", /must export agents: number 1 of them is none, for example/],
      ["export const agents = []\nimport 'no-such-package'\n", /'no-such-package' \(agents\.mjs\)/],
      ['import "./part.mjs"\nexport const agents = []\n', /part\.mjs' \(agents\.mjs\)/]
    ]
    for (const [text, what] of wrong) {
      await save(text, notLoaded(what))
      assert.match((await loads())[1].problem ?? "", what)
    }
    assert.match(await said(/^ {2}/), /when it is saved/)
    // The mistake is in what it imports.
    writeFileSync(join(folder, "part.mjs"), "export const part = 1\nexport const = 2\n")
    await said(notLoaded(/\(part\.mjs:2\)/))
    await save(hello("first"), /^loaded anew: hello@1\.0\.0/)
    assert.strictEqual(await run("submit", "hello"), "first")
    assert.deepStrictEqual((await loads())[1].problem, undefined)
  })

  it("goes on when the file is removed, comes back, or never comes to an end", async () => {
    rmSync(file)
    await said(notLoaded(/the agents before go on: .*no such file/))
    assert.strictEqual(await run("submit", "hello"), "first")
    writeFileSync(`${file}~`, hello("back"))
    renameSync(`${file}~`, file)
    await said(/^loaded anew/)
    assert.strictEqual(await run("submit", "hello"), "back")
    // A load that waits for ever is left when something is saved.
    writeFileSync(
      file,
      `process.stderr.write("it waits\\n")\nawait new Promise(() => setInterval(() => {}, 1e6))\n`
    )
    await said(/^it waits/)
    // That nothing has come of it is said, here and to the console; the agents before go on meanwhile.
    await said(/^not loaded yet, the agents before go on/)
    assert.match((await loads())[1].problem ?? "", /waits for something/)
    assert.strictEqual(await run("submit", "hello"), "back")
    await save(hello("after"), /^loaded anew/)
    assert.strictEqual(await run("submit", "hello"), "after")
  })

  it("goes on when a module throws in a timer, lets go of a promise, or would end the process", async () => {
    const late = (what: string) => `setTimeout(() => ${what}, 10)\nexport const agents = []\n`
    for (const [what, why] of [
      ['{ throw new Error("late") }', /level=ERROR.*nothing catches.*late.*agents\.mjs\?[^:]*:1:26/],
      ['Promise.reject(new Error("left"))', /level=ERROR.*nobody waits for.*left.*agents\.mjs/],
      ["process.exit(3)", /level=ERROR.*tried to end the process.*agents\.mjs/]
    ] as const) {
      await save(late(what), /^loaded anew/)
      assert.match(await said(why), /module=\.\/agents\.mjs/)
    }
    await save("process.exit(3)\n", notLoaded(/called process\.exit.*\(agents\.mjs:1:9\)/))
    await save(hello("still there"), /^loaded anew/)
    assert.strictEqual(await run("submit", "hello"), "still there")
  })

  it.skipIf("typescript" in process.features)(
    "says what it needs where nothing reads TypeScript, and stays",
    async () => {
      writeFileSync(join(folder, "typed.ts"), "export const agents: ReadonlyArray<unknown> = []\n")
      const typed = spawn(process.execPath, [program, "dev", "typed.ts", "--memory", "--port", "0"], {
        cwd: folder,
        stdio: ["ignore", "pipe", "pipe"]
      })
      let text = ""
      for (const stream of [typed.stdout, typed.stderr])
        stream?.on("data", (data) => {
          text += data
        })
      try {
        while (!/^listening/m.test(text)) await new Promise((resolve) => setTimeout(resolve, 20))
        assert.match(text, /Node 22\.18 or later, or npm i -D esbuild/)
      } finally {
        typed.kill()
      }
      const serve = promisify(execFile)(
        process.execPath,
        [program, "serve", "--agents", "typed.ts", "--memory", "--port", "0"],
        { cwd: folder }
      )
      const refused = (await serve.catch((error: unknown) => error)) as {
        readonly code: number
        readonly stderr: string
      }
      assert.strictEqual(refused.code, 2)
      assert.match(
        refused.stderr,
        /--agents typed\.ts does not load: .*Node 22\.18 or later, or npm i -D esbuild/s
      )
    }
  )
})
