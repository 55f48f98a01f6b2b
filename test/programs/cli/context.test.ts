/** `arcp context`: runtimes under names, which setting holds, and tokens that are come by when they are needed. */
import { execFileSync } from "node:child_process"
import * as fs from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { it as effectIt } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/TestClock"
import { afterAll, describe, expect, it } from "vitest"
import { tokenOf } from "../../../src/programs/cli/token.js"
import { run, serving } from "./inProcess.js"

const folder = fs.mkdtempSync(join(tmpdir(), "arcp-context-"))
afterAll(() => fs.rmSync(folder, { recursive: true }))

let homes = 0
/** A user with no contexts: runs commands as that user, beside what else is in the environment. */
const user = () => {
  const home = join(folder, `home-${++homes}`)
  const file = join(home, "arcp", "config.json")
  const arcp = (args: ReadonlyArray<string>, environment: Readonly<Record<string, string>> = {}) =>
    run(args, { XDG_CONFIG_HOME: home, ...environment })
  /** The same, for what must succeed; gives what is printed. */
  const ok = async (...args: ReadonlyArray<string>) => {
    const { code, stderr, stdout } = await arcp(args)
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
    return stdout
  }
  return { home, file, arcp, ok }
}

const mode = (name: string) => fs.statSync(name).mode & 0o777
const nowhere = "ws://127.0.0.1:9/arcp"

describe("arcp context", () => {
  it("adds, lists, uses, shows and forgets, and shows no token", async () => {
    const { arcp, file, ok } = user()
    expect(await ok("context", "add", "a", "--url", nowhere, "--token", "sekrit-a")).toMatch(
      /context a is kept; arcp context use a /
    )
    await ok("context", "add", "b.2", "--url", "wss://b.example/arcp", "--token-command", "echo t", "--use")
    expect(await ok("context", "current")).toBe("b.2\n")
    expect(await ok("context", "list")).toBe(
      `  NAME  TOKEN    URL\n  a     kept     ${nowhere}\n* b.2   command  wss://b.example/arcp\n`
    )
    expect(await ok("context", "list", "--names")).toBe("a\nb.2\n")
    await ok("context", "use", "a")
    expect(await ok("context", "show")).toMatch(/^name +a \(in use\)\nurl +ws:.*\ntoken +kept .*not shown/)
    expect(await ok("context", "show", "b.2")).toMatch(/token +what this prints: echo t\n/)
    const shown = [
      await ok("context", "show", "a", "--json"),
      await ok("context", "list", "--json"),
      await ok("context", "add", "c", "--url", nowhere, "--token", "sekrit-c", "--json")
    ]
    expect(shown.join("")).not.toMatch(/sekrit/)
    expect(JSON.parse(shown[0] ?? "")).toEqual({
      name: "a",
      current: true,
      url: nowhere,
      insecure: false,
      token: "kept"
    })
    expect(await ok("context", "rm", "a")).toMatch(/is forgotten; none is in use now/)
    expect(await arcp(["context", "current"])).toMatchObject({ code: 1, stdout: "" })
    expect(fs.readFileSync(file, "utf8")).not.toMatch(/sekrit-a/)
  })

  it("keeps them in a file for its owner only, written whole, in place of a link and not through it", async () => {
    const { file, home, ok } = user()
    const victim = join(home, "victim")
    fs.mkdirSync(join(home, "arcp"), { recursive: true, mode: 0o755 })
    fs.writeFileSync(victim, '{"theme":"dark"}', { mode: 0o600 })
    fs.symlinkSync(victim, file)
    await ok("context", "add", "a", "--url", nowhere, "--token", "t")
    expect([mode(join(home, "arcp")), mode(file)]).toEqual([0o700, 0o600])
    expect(fs.lstatSync(file).isSymbolicLink()).toBe(false)
    expect(fs.readFileSync(victim, "utf8")).toBe('{"theme":"dark"}')
    expect(fs.readdirSync(join(home, "arcp"))).toEqual(["config.json"])
    // What is not known here stays.
    expect(JSON.parse(fs.readFileSync(file, "utf8"))).toEqual({
      theme: "dark",
      contexts: { a: { url: nowhere, token: "t" } }
    })
  })

  it("warns of a file that others can read", async () => {
    const { arcp, file, ok } = user()
    await ok("context", "add", "a", "--url", nowhere)
    fs.chmodSync(file, 0o640)
    expect((await arcp(["context", "list"])).stderr).toMatch(/warning: .*config\.json .*chmod 600/)
    await arcp(["context", "use", "a"])
    expect(mode(file)).toBe(0o600)
  })

  it.each<readonly [ReadonlyArray<string>, RegExp]>([
    [["add", "x"], /needs --url/],
    [["add", "x", "--url", "http://a.example"], /--url takes an address like wss:/],
    [["add", "x", "--url", "wss://u:sekrit@a.example"], /--url takes no user name/],
    [["add", "x", "--url", "ws://a.example/arcp"], /--url .*readable; use wss:.*--insecure/],
    [["add", "a/b", "--url", nowhere], /"a\/b" is no name: /],
    [["add", "__proto__", "--url", nowhere], /is no name: /],
    [["add", "known", "--url", nowhere], /there is a context known already; --replace/],
    [
      ["add", "x", "--url", nowhere, "--token", "sekrit", "--token-file", "f"],
      /--token and --token-file: choose one/
    ],
    [["add", "x", "--url", nowhere, "--token", "sek rit"], /--token takes a token/],
    [["add", "x", "--url", nowhere, "--token-command", " "], /--token-command needs a value/],
    [["use", "knwon"], /there is no context "knwon"; did you mean known\?/],
    [["rm", "constructor"], /there is no context "constructor"\n.*arcp context list/],
    [["show", "known", "more"], /does not take "more"/],
    [["lst"], /lst is no command of arcp context; did you mean list\?\n.*arcp context --help/],
    [["--use"], /flags follow a command/]
  ])("%j is refused", async (args, said) => {
    const { arcp, ok } = user()
    await ok("context", "add", "known", "--url", nowhere)
    const { code, stderr, stdout } = await arcp(["context", ...args])
    expect(stderr).toMatch(said)
    expect(stderr).not.toMatch(/sekrit|sek rit/)
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" })
  })

  it.each([
    ["[1]", /is not \{"current"/],
    ["{", /is not JSON/],
    ['{"contexts":{"a":{"url":1}}}', /a context a that has no url/],
    ['{"contexts":{"a":{"url":"ws://x","token":1}}}', /has a token that is not a text/]
  ])("a file of %s is named, and not overwritten", async (text, said) => {
    const { arcp, file, home } = user()
    fs.mkdirSync(join(home, "arcp"), { recursive: true })
    fs.writeFileSync(file, text, { mode: 0o600 })
    for (const args of [["context", "list"], ["context", "add", "b", "--url", nowhere], ["jobs"]]) {
      const { code, stderr } = await arcp(args)
      expect(stderr).toMatch(said)
      expect(stderr).toContain(file)
      expect(code).toBe(1)
    }
    expect(fs.readFileSync(file, "utf8")).toBe(text)
  })

  it("is explained", async () => {
    const { stdout } = await run(["help", "context"])
    for (const name of ["add", "list", "use", "show", "rm", "current"])
      expect(stdout).toMatch(new RegExp(`^  context ${name}\\b`, "m"))
    for (const line of stdout.split("\n").filter((line) => !line.startsWith("  arcp ")))
      expect(line.length).toBeLessThanOrEqual(80)
    expect((await run(["context"])).stdout).toBe(stdout)
    expect((await run(["context", "--help"])).stdout).toBe(stdout)
    expect((await run(["help", "context", "add"])).stdout).toBe((await run(["context", "add", "-h"])).stdout)
    expect((await run(["help", "contxt"])).stderr).toMatch(/did you mean context\?/)
    expect((await run(["help", "jobs"])).stdout).toMatch(/--context NAME .*\n?.*ARCP_CONTEXT/)
  })
})

describe("a command of a client", () => {
  it("takes each setting from flags, a named context, the environment, the context in use, in this order", async () => {
    await serving(["--memory", "--agents", "conformance", "--token", "t=me"], async (url) => {
      const { arcp, ok } = user()
      await ok("context", "add", "good", "--url", url, "--token", "t")
      await ok("context", "add", "bare", "--url", url)
      await ok("context", "add", "gone", "--url", nowhere, "--token", "t")
      await ok("context", "add", "stranger", "--url", url, "--token", "x")
      const codes: ReadonlyArray<
        readonly [number, ReadonlyArray<string>, Readonly<Record<string, string>>?]
      > = [
        // Nothing says where, nothing is in use: no token.
        [2, []],
        [0, ["--context", "good"]],
        [0, [], { ARCP_CONTEXT: "good" }],
        [5, ["--context", "gone"]],
        [1, ["--context", "stranger"]],
        [2, ["--context", "bare"]],
        [0, ["--context", "bare"], { ARCP_TOKEN: "t" }],
        [2, ["--context", "godo"]],
        // A flag goes before everything.
        [0, ["--context", "gone", "--url", url]],
        [5, ["--context", "good", "--url", nowhere]],
        [0, ["--context", "stranger", "--token", "t"], { ARCP_TOKEN: "x" }],
        // A context that a flag names goes before the environment,
        [0, ["--context", "good"], { ARCP_URL: nowhere, ARCP_TOKEN: "x", ARCP_CONTEXT: "gone" }],
        // and the environment before one that it names itself.
        [5, [], { ARCP_CONTEXT: "good", ARCP_URL: nowhere }],
        [1, [], { ARCP_CONTEXT: "good", ARCP_TOKEN: "x" }]
      ]
      for (const [code, flags, environment] of codes) {
        const { code: left } = await arcp(["agents", ...flags], environment)
        expect([left, flags, environment]).toEqual([code, flags, environment])
      }
      await ok("context", "use", "good")
      expect(await ok("agents")).toMatch(/^echo /m)
      expect((await arcp(["agents"], { ARCP_URL: nowhere })).code).toBe(5)
      expect((await arcp(["agents"], { ARCP_CONTEXT: "gone" })).code).toBe(5)
      expect((await arcp(["agents", "--context", "good"], { ARCP_URL: nowhere })).code).toBe(0)
      // Every command, not just this one.
      for (const args of [["jobs"], ["submit", "echo", "--input", "1"]])
        expect((await arcp([...args, "--context", "gone"])).code).toBe(5)
      expect((await arcp(["submit", "echo", "--input", "1"])).stdout).toBe("1\n")
      const { stderr } = await arcp(["context", "use", "bare"], { ARCP_CONTEXT: "good" })
      expect(stderr).toMatch(/ARCP_CONTEXT names good, which goes before it/)
    })
  })

  it("gets its token from a command or a file, each time anew, without what is around it", async () => {
    await serving(
      ["--memory", "--agents", "conformance", "--token", "t1=me", "--token", "t2=me"],
      async (url) => {
        const { arcp, home, ok } = user()
        const file = join(home, "token")
        const counted = join(home, "counted")
        await ok("context", "add", "file", "--url", url, "--token-file", file)
        await ok(
          "context",
          "add",
          "run",
          "--url",
          url,
          "--token-command",
          `echo x >>${counted}; printf ' %s\\n\\n' t1`
        )
        expect((await arcp(["agents", "--context", "file"])).stderr).toMatch(
          /no token: context file: its token file .*token does not exist\n {2}arcp context show/
        )
        for (const token of ["t1", "\ufefft2\r\n"]) {
          fs.writeFileSync(file, token)
          await ok("agents", "--context", "file")
        }
        await ok("agents", "--context", "run")
        await ok("agents", "--context", "run")
        // Where another token is given, it is not run.
        await ok("agents", "--context", "run", "--token", "t2")
        expect(fs.readFileSync(counted, "utf8")).toBe("x\nx\n")
      }
    )
  })
})

describe("a token command", () => {
  const asked = (tokenCommand: string) => {
    const token = tokenOf("prod", { url: nowhere, tokenCommand })
    return Effect.isEffect(token) ? token : Effect.dieMessage("not asked")
  }
  const failing = (tokenCommand: string) =>
    Effect.map(Effect.flip(asked(tokenCommand)), ({ message }) => message)

  it.each<readonly [string, RegExp]>([
    ["echo 'not logged in' >&2; exit 7", /^context prod: its token command left with 7:\n {2}not logged in$/],
    ["exit 1", /left with 1; it said nothing$/],
    ["kill -TERM $$", /was ended by SIGTERM/],
    ["no-such-command-here", /left with 127:\n.*no-such-command-here.*not found/],
    ["true", /its token command gave no token$/],
    ["echo a b", /gave more than a token/],
    ["printf '\\033[31m' >&2; exit 3", /left with 3:\n {2}\ufffd\[31m$/],
    ["yes", /printed more than 65536/]
  ])("%j is told in a sentence", async (command, said) => {
    expect(await Effect.runPromise(failing(command))).toMatch(said)
  })

  it.skipIf(process.platform === "win32")(
    "a file that is a pipe or a device is told, and not waited for (not on Windows)",
    async () => {
      const pipe = join(folder, "pipe")
      execFileSync("mkfifo", [pipe])
      for (const tokenFile of [pipe, "/dev/zero", folder]) {
        const token = tokenOf("prod", { url: nowhere, tokenFile })
        if (!Effect.isEffect(token)) throw new Error("not asked")
        expect((await Effect.runPromise(Effect.flip(token))).message).toMatch(/is no regular file/)
      }
    }
  )

  it.skipIf(process.platform === "win32")(
    "a pipe, a device or a folder in the place of the file of contexts is told, and not waited for (not on Windows)",
    async () => {
      const home = fs.mkdtempSync(join(folder, "home-"))
      const file = join(home, "arcp/config.json")
      fs.mkdirSync(join(home, "arcp"))
      execFileSync("mkfifo", [join(home, "pipe")])
      for (const to of [join(home, "pipe"), "/dev/zero", home]) {
        fs.symlinkSync(to, file)
        const { code, stderr } = await run(["context", "list"], { XDG_CONFIG_HOME: home })
        expect([code, stderr]).toEqual([1, expect.stringContaining(`${file} is no regular file`)])
        fs.rmSync(file)
      }
    }
  )

  effectIt.effect("has a time limit, after which nothing of it is left", () =>
    Effect.gen(function* () {
      const pids = join(folder, "pids")
      const fiber = yield* Effect.fork(failing(`sleep 600 & echo $! $$ >${pids}; wait`))
      const written = () => fs.existsSync(pids) && /\n$/.test(fs.readFileSync(pids, "utf8"))
      yield* Effect.yieldNow().pipe(Effect.repeat({ until: written }))
      yield* TestClock.adjust("31 seconds")
      expect(yield* Fiber.join(fiber)).toMatch(/took more than 20 s/)
      const [child = "", shell = ""] = fs.readFileSync(pids, "utf8").trim().split(" ")
      const isThere = (pid: string) => {
        try {
          // Who has ended, and waits to be noticed, is no more.
          return !/^State:\s+Z/m.test(fs.readFileSync(`/proc/${pid}/status`, "utf8"))
        } catch {
          return false
        }
      }
      if (process.platform === "linux")
        yield* Effect.yieldNow().pipe(Effect.repeat({ until: () => !isThere(child) && !isThere(shell) }))
    })
  )

  it("tells its token to nobody who prints it", async () => {
    const token = await Effect.runPromise(asked("echo sekrit"))
    expect(`${token} ${JSON.stringify(token)}`).not.toMatch(/sekrit/)
    expect(Redacted.value(token)).toBe("sekrit")
  })
})
