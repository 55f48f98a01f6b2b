/** Mistakes that a person makes on the command line, and what they are told. */
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { request as httpRequest } from "node:http"
import { homedir, tmpdir } from "node:os"
import { join, resolve } from "node:path"
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { afterAll, describe, expect, it, vi } from "vitest"
import { Transaction } from "../../../src/layers/log/Transaction.js"
import { describe as explain } from "../../../src/programs/cli/exit.js"
import { inlined } from "../../../src/programs/cli/inlined.js"
import { askedFor } from "../../../src/programs/cli/lease.js"
import { commandLines } from "../../../src/programs/cli/run/agents.js"
import { bar } from "../../../src/programs/cli/screen.js"
import { plain, safe } from "../../../src/programs/cli/text.js"
import { InternalError, PermissionDenied } from "../../../src/protocol/Errors.js"
import { run, serving } from "./inProcess.js"

const folder = mkdtempSync(join(tmpdir(), "arcp-cli-usage-"))
afterAll(() => rmSync(folder, { recursive: true }))
let files = 0
const file = (content: unknown): string => {
  const name = join(folder, `${++files}.json`)
  writeFileSync(name, typeof content === "string" ? content : JSON.stringify(content))
  return name
}

/** Refused before anything is connected to or listened on. */
const refused = async (args: ReadonlyArray<string>, said: RegExp, env: Record<string, string> = {}) => {
  const { code, stderr, stdout } = await run(args, env)
  expect(stderr).toMatch(said)
  expect(stderr).not.toMatch(/\n\s+at |sekrit|└─/)
  expect(stdout).toBe("")
  expect(code).toBe(2)
}

describe("arcp submit", () => {
  const past = { expires_at: "2020-01-01T00:00:00Z" }
  it.each([
    [["--lease"], /--lease needs a value/],
    [["--lease", "fs.read="], /CAPABILITY=PATTERN/],
    [
      ["--lease", "net.fetch=a.example/**"],
      /"a\.example\/\*\*" can match nothing: URL patterns look like https/
    ],
    [["--budget", "USD:-5"], /--budget takes CURRENCY:AMOUNT/],
    [["--budget", "USD:1e3"], /--budget takes CURRENCY:AMOUNT/],
    [["--expires-in", "0s"], /30s, 10m, 2h or 1d/],
    [["--expires-in", "999999999d"], /year 9999/],
    [["--timeout-sec", "0"], /--timeout-sec takes 1 to 86400/],
    [["--key", ""], /--key takes KEY, and this is empty/],
    [["--key", "k".repeat(257)], /--key takes 1 to 256/],
    [["--input", "1e400"], /--input: a number is too large/],
    [["--input", '{"a":1,}'], /--input is not JSON, from character 8 on; give for example /],
    [["--input", '{"a":[-1e999]}'], /--input: a number is too large/],
    [["--context", "nowhere"], /^error: --context: there is no context "nowhere"/m],
    [["--delay", "soon"], /--delay takes 30s, 10m, 2h or 1d/],
    [["--start-at", "10m"], /--start-at takes a day/],
    [["--start-at", "2026-02-30"], /--start-at takes a day/],
    [["--delay", "1m", "--start-at", "2026-01-31"], /--delay or --start-at, not both/],
    [["--nope"], /nope.*\n*.*--help/],
    [["--lease-file", file("{")], /must hold JSON/],
    [["--lease-file", file("null")], /the lease must be an object/],
    [["--lease-file", file({ lease_request: null })], /the lease must be an object/],
    [["--lease-file", file({ "net.fetch": ["a.example"] })], /can match nothing/],
    // A constraint that is dropped would be authority without an end.
    [
      ["--lease-file", file({ lease_request: {}, lease_constraint: past })],
      /: lease_constraint: is not expected/
    ],
    [
      ["--lease-file", file({ lease_constraints: { expires: past.expires_at } })],
      /: lease_constraints\.expires: is not expected/
    ],
    [
      ["--lease-file", file({ lease_constraints: { expires_at: "soon" } })],
      /expires_at: expected an RFC 3339/
    ],
    [["--lease-file", file({ lease_constraints: past })], /has passed/]
  ])("%j is refused", (flags, said) =>
    refused(["submit", "echo", "--token", "sekrit", "--url", "ws://127.0.0.1:9/arcp", ...flags], said)
  )

  it("paths are relative to where it runs, or to the home folder; in a file as in a flag", async () => {
    const asked = await askedFor({
      lease: ["fs.read=~/x/**", "fs.read=./y", "fs.write=~"],
      budget: ["USD:1", "USD:2"],
      expiresIn: Option.none(),
      leaseFile: Option.some(file({ "fs.read": ["z/*", "/abs", "**/a"] }))
    }).pipe(Effect.provide(NodeContext.layer), Effect.runPromise)
    expect(asked).toEqual({
      leaseRequest: {
        "fs.read": [resolve("z/*"), "/abs", "**/a", join(homedir(), "x/**"), resolve("y")],
        "fs.write": [homedir()],
        "cost.budget": ["USD:1", "USD:2"]
      }
    })
  })

  it("--expires-in goes before a file's expiry, which may then be over", async () => {
    const asked = await askedFor({
      lease: [],
      budget: [],
      expiresIn: Option.some("10m"),
      leaseFile: Option.some(file({ lease_constraints: past }))
    }).pipe(Effect.provide(NodeContext.layer), Effect.runPromise)
    expect(Date.parse(asked.leaseConstraints?.expires_at ?? "")).toBeGreaterThan(Date.now())
  })
})

describe("arcp serve", () => {
  it("leaves with a message and not with 0 when the log has stopped", async () => {
    const apply = vi.spyOn(Transaction.prototype, "apply").mockImplementation(() => {
      throw new Error("memory and store differ")
    })
    try {
      // That it is alive is committed four times in a window.
      const args = ["--memory", "--port", "0", "--token", "t=me", "--resume-window-sec", "1"]
      const { code, stderr, stdout } = await run(["serve", ...args])
      expect(stdout).toMatch(/^listening /)
      expect(stderr).toMatch(/^error: INTERNAL_ERROR: the log has stopped; the runtime must be restarted$/m)
      expect(stderr).toMatch(/shutting down: the log has stopped/)
      expect(code).toBe(1)
    } finally {
      apply.mockRestore()
    }
  })

  const who = { token: "sekrit", principal: "ci" }
  const contract = join(folder, "contract.mjs")
  writeFileSync(contract, `export const agents = [{ name: "greet", version: "1.0.0", input: {} }]\n`)
  it.each<readonly [ReadonlyArray<string>, RegExp]>([
    [["--token"], /--token needs a value/],
    [["--path", "arcp"], /--path "arcp" has to be a path that starts with a \//],
    [["--host", "0.0.0.0"], /--allow-insecure/],
    [["--workspace", join(folder, "none")], /none: there is no such file \(ENOENT\)$/m],
    [["--limit", "maxJobPerSession=5"], /no option maxJobPerSession; did you mean maxJobsPerSession\?/],
    [["--limit", "x=5"], /no option x; there are name, version, /],
    [["--limit", "resumeWindow=soon"], /--limit resumeWindow: expected a duration/],
    [["--db", ""], /--db takes FILE, and this is empty/],
    [["--limit", "maxJobsPerSession=abc"], /--limit maxJobsPerSession: expected a number/],
    [["--operator"], /--operator needs a value/],
    [["--cancel-grace-ms", "-1"], /--cancel-grace-ms: expected a duration of zero or more/],
    [
      ["--limit", "cancelGraceMs=5", "--cancel-grace-ms", "6"],
      /choose --cancel-grace-ms or --limit cancelGrace/
    ],
    [["--limit", "workspace=/", "--workspace", "/tmp"], /choose --workspace or --limit workspace/],
    [["--heartbeat-sec", "0"], /--heartbeat-sec: expected a positive duration/],
    [["--agents", join(folder, "none.mjs")], /does not load: there is no such file \(ENOENT\)$/m],
    [["--agents", contract], /greet is a contract without a handler\n.*Agent\.handle/],
    [["--webhook", "x"], /--webhook needs a secret to sign with: --webhook-secret-file FILE/],
    [["--webhook-values"], /need --webhook URL/],
    [["--jwt-issuer", "x"], /need a key/],
    [["--jwt-clock-tolerance-sec", "5"], /need a key/],
    [["--jwt-clock-tolerance-sec", "-1"], /takes 0 or more/],
    [["--allow-host"], /--allow-host needs a value/],
    [["--token", "sekrit=me", "--token", "sekrit=you"], /--token …=you: .*another's/],
    [["--identities", file([who]), "--token", "sekrit=root"], /--token …=root: .*another's/],
    [["--identities", join(folder, "none.json")], /cannot be read: there is no such file \(ENOENT\)$/m],
    [["--identities", file("[")], /not JSON/],
    [["--identities", file("[]")], /nobody could connect/],
    [["--identities", file({})], /identities: expected an array of identities;/],
    [["--identities", file([who, who])], /same token/],
    [
      ["--identities", file([{ ...who, leaseCeilling: {} }])],
      /identities\[0\]\.leaseCeilling: is not expected/
    ],
    [["--identities", file([{ ...who, expiresAt: "2030" }])], /expected a time in epoch milliseconds/],
    [["--identities", file([{ ...who, agents: "echo" }])], /agents: expected a list of names/],
    [
      ["--identities", file([{ ...who, agents: ["ver@1.0.0"] }])],
      /agents\[0\]: expected the name of an agent/
    ]
  ])("%j is refused", (flags, said) => refused(["serve", "--memory", "--port", "0", ...flags], said))

  it("looks at the flags of --webhook before it says that it starts", async () => {
    const { stderr } = await run(["serve", "--memory", "--port", "0", "--webhook", "x"])
    expect(stderr).toMatch(/^error: --webhook needs a secret/)
  })

  describe("what is named as a file", () => {
    const [dangling, circle] = [join(folder, "dangling"), join(folder, "circle")]
    symlinkSync(join(folder, "nothing"), dangling)
    symlinkSync(circle, circle)
    const plain = file("[]")
    const under = (name: string) => (path: string) => [name, path]
    const flags = {
      agents: under("--agents"),
      identities: under("--identities"),
      workspace: under("--workspace"),
      key: under("--jwt-public-key"),
      db: under("--db")
    }
    const is = (...matter: ReadonlyArray<string>) => new RegExp(`^error: .*(${matter.join("|")})`, "m")
    it.each<readonly [string, string, (path: string) => ReadonlyArray<string>, RegExp]>([
      ["a directory", folder, flags.agents, is("it is no file")],
      ["a directory", folder, flags.identities, is("cannot be read: it is a directory")],
      ["a directory", folder, flags.key, is("cannot be read: it is a directory")],
      ["a directory", folder, flags.db, is("is a directory; name a file in it")],
      ["a file", plain, flags.workspace, is("it is no directory")],
      ["a link to nothing", dangling, flags.agents, is("there is no such file")],
      ["a link to nothing", dangling, flags.identities, is("there is no such file")],
      ["a link to nothing", dangling, flags.workspace, is("there is no such file")],
      ["a link to nothing", dangling, flags.key, is("there is no such file")],
      ...Object.values(flags).map(
        (flag) =>
          [
            "below a file",
            join(plain, "x"),
            flag,
            is("a part of its path is a file", "there is a file of this name")
          ] as const
      ),
      ...Object.values(flags).map(
        (flag) => ["a link to itself", circle, flag, is("its links lead in a circle")] as const
      ),
      ["too long a name", join(folder, "x".repeat(300)), flags.db, is("its name is too long")]
    ])("%s: %s", async (_, path, flag, said) => {
      const [name, value] = flag(path) as [string, string]
      const { code, stderr } = await run([
        "serve",
        ...(name === "--db" ? [] : ["--memory"]),
        "--port",
        "0",
        name,
        value
      ])
      expect(stderr).toMatch(said)
      expect(stderr).toContain(path)
      expect(stderr).not.toMatch(/\n\s+at |Error:/)
      expect(code).toBe(name === "--db" ? 1 : 2)
    })

    it.skipIf(process.platform !== "linux")("--db where no file can be made (on Linux)", async () => {
      const { stderr } = await run(["serve", "--port", "0", "--db", "/proc/x.db"])
      expect(stderr).toMatch(/^error: \/proc\/x\.db\.lock cannot be created: .*; choose a file in a folder/m)
    })
  })

  it("says which setting of the environment is wrong", () =>
    refused(["serve", "--memory", "--port", "0"], /ARCP_TOKENS: entry 1 is not token=principal/, {
      ARCP_TOKENS: "sekrit"
    }))

  it("a port in use is no matter of connecting", async () => {
    await serving(["--memory", "--agents", "conformance"], async (address) => {
      const { code, stderr } = await run(["serve", "--memory", "--port", new URL(address).port])
      expect(stderr).toMatch(/is in use: .* choose another port/)
      // Why is what is read last: nothing is said of a stop of what has not begun.
      expect(stderr).not.toMatch(/--url|has stopped/)
      expect(stderr.trimEnd().split("\n").at(-1)).toMatch(/choose another port/)
      // Nor is a shutdown without it.
      expect(stderr).toMatch(/shutting down: [^\n]*is in use/)
      expect(code).toBe(1)
    })
  })

  it("warns of what has no effect", async () => {
    const ceiling = file([{ ...who, leaseCeiling: { "fs.read": ["src/**"] } }])
    const said = async (...flags: ReadonlyArray<string>) => {
      let printed = ""
      await serving(
        ["--memory", ...flags],
        async () => {},
        (text) => {
          printed += text
        }
      )
      expect(printed).not.toMatch(/sekrit/)
      return printed
    }
    expect(await said("--identities", ceiling)).toMatch(/WARN.*leaseCeiling.*can match nothing/)
    const jwt = ["--jwt-secret", "0123456789abcdef".repeat(3)]
    expect(await said(...jwt, "--identities", ceiling)).toMatch(/WARN.*which are ignored/)
  })

  it("takes the JWT secret from the environment, and warns that no audience is checked", async () => {
    const { code, stderr } = await run(["serve", "--memory", "--port", "0"], { ARCP_JWT_SECRET: "" })
    expect(stderr).toMatch(/the JWT secret is empty/)
    expect(code).not.toBe(0)
    let printed = ""
    await serving(
      ["--memory", "--jwt-secret", "0123456789abcdef".repeat(3), "--jwt-clock-tolerance-sec", "0"],
      async () => {},
      (text) => {
        printed += text
      }
    )
    expect(printed).toMatch(/WARN.*audience/)
  })

  it("is reached by the names of --allow-host, with or without a slash at the end of the path", async () => {
    const status = (address: string, path: string, host: string) =>
      new Promise<number>((resolve, reject) => {
        const request = httpRequest({ host: "127.0.0.1", port: new URL(address).port, path }, (response) =>
          resolve(response.statusCode ?? 0)
        )
        request.setHeader("host", host)
        for (const [name, value] of Object.entries({
          connection: "Upgrade",
          upgrade: "websocket",
          "sec-websocket-version": "13",
          "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA=="
        }))
          request.setHeader(name, value)
        request.on("upgrade", (_, socket) => {
          socket.destroy()
          resolve(101)
        })
        request.on("error", reject)
        request.end()
      })
    await serving(["--memory", "--allow-host", "agents.example.com"], async (address) => {
      expect(await status(address, "/arcp", "agents.example.com")).toBe(101)
      expect(await status(address, "/arcp/", "agents.example.com:443")).toBe(101)
      expect(await status(address, "/arcp/?a=b", "localhost")).toBe(101)
      expect(await status(address, "/arcp", "evil.example.com")).toBe(403)
      expect(await status(address, "/arcp/x", "localhost")).toBe(404)
    })
  })

  it("recommends a command that works", async () => {
    const printed: Array<string> = []
    await serving(
      ["--memory", "--agents", "conformance"],
      async () => {},
      (text) => printed.push(text)
    )
    expect(printed.join("")).toMatch(/try: arcp agents --url/)
    printed.length = 0
    await serving(
      ["--memory"],
      async () => {},
      (text) => printed.push(text)
    )
    expect(printed.join("")).toMatch(/try: arcp submit survey --url/)
  })
})

describe("arcp replay and arcp credentials", () => {
  it.each<readonly [ReadonlyArray<string>, RegExp]>([
    [["replay"], /choose --session SESSION or --job JOB/],
    [["replay", "--job", "a", "--session", "b"], /choose --session SESSION or --job JOB/]
  ])("%j is refused", (args, said) => refused(args, said))
})

describe("arcp jobs", () => {
  it("shows the newest first, as many as asked for", async () => {
    await serving(["--memory", "--agents", "conformance", "--token", "t=me"], async (url) => {
      const arcp = (...args: ReadonlyArray<string>) => run(args, { ARCP_URL: url, ARCP_TOKEN: "t" })
      expect(await arcp("jobs")).toMatchObject({ code: 0, stdout: "", stderr: "no jobs\n" })
      for (const i of [1, 2, 3]) expect((await arcp("submit", "echo", "--input", `${i}`)).code).toBe(0)
      const every = (await arcp("jobs", "--json")).stdout.trim().split("\n")
      const ids = every.map((line) => JSON.parse(line).job_id as string)
      const { stdout, stderr } = await arcp("jobs", "--limit", "2")
      const [header, ...rows] = stdout.trim().split("\n")
      expect(header).toMatch(/^JOB +STATUS +AGE +TOOK +AGENT$/)
      expect(rows.map((row) => row.split(" ")[0])).toEqual([ids[2], ids[1]])
      expect(rows[0]).toMatch(/success +\d+s +\d+ms +echo@1\.0\.0$/)
      expect(stderr).toBe("the newest 2 of 3; --limit 0 shows all\n")
      const newest = (await arcp("jobs", "--limit", "1", "--json")).stdout
      expect(JSON.parse(newest).job_id).toBe(ids[2])
      expect((await arcp("jobs", "--limit", "0")).stdout.trim().split("\n")).toHaveLength(4)
      expect((await arcp("jobs", "--created-after", "1h", "--json")).stdout.trim().split("\n")).toHaveLength(
        3
      )
      const earlier = ["--created-before", "2026-01-31T12:00:00+01:00", "--created-after", "2026-01-31"]
      expect((await arcp("jobs", ...earlier)).stderr).toBe("no jobs\n")
    })
  })

  it("says which times it takes", () =>
    refused(
      ["jobs", "--created-after", "yesterday", "--token", "t"],
      /--created-after takes how long ago .*"yesterday"/
    ))
})

describe("arcp agents", () => {
  it("says what an agent takes, with command lines that work", async () => {
    await serving(["--memory", "--agents", "demo", "--token", "t=me"], async (url) => {
      const arcp = (...args: ReadonlyArray<string>) => run(args, { ARCP_URL: url, ARCP_TOKEN: "t" })
      const { stdout } = await arcp("agents", "survey")
      expect(stdout).toMatch(/^survey@2\.0\.0\n {2}Says what is in a directory tree/)
      expect(stdout).toMatch(/"required": \[\s+"root"\s+\]/)
      expect(stdout).toContain(`  arcp submit survey --input '{"root":"."}'\n`)
      const old = JSON.parse((await arcp("agents", "survey@1.0.0", "--json")).stdout)
      expect(old).toMatchObject({
        name: "survey",
        version: "1.0.0",
        default: "2.0.0",
        input_schema: { type: "object", required: ["root"] },
        examples: [{ root: "." }]
      })
      // As it was, for programs.
      expect(JSON.parse((await arcp("agents", "--json")).stdout)).toEqual({
        name: "survey",
        versions: ["1.0.0", "2.0.0"],
        default: "2.0.0"
      })
      expect((await arcp("agents")).stdout).toMatch(/^survey {2}1\.0\.0, 2\.0\.0 \(default\) {2}Says what/)
      expect(await arcp("agents", "survye")).toMatchObject({ code: 1, stdout: "" })
      expect((await arcp("agents", "survye")).stderr).toMatch(/did you mean survey\?/)
      expect((await arcp("submit", "survye@1.0.0")).stderr).toMatch(/not available.*; did you mean survey\?/)
      expect((await arcp("agents", "survey@9")).stderr).toMatch(/it has 1\.0\.0, 2\.0\.0/)
    })
  })

  it("makes a command line of a schema when there is no example", () => {
    const input_schema = {
      type: "object",
      required: ["who", "times", "how"],
      properties: {
        who: { type: "string" },
        times: { type: "integer" },
        how: { enum: ["it's", "loud"] },
        not: {}
      }
    }
    expect(commandLines("greet@1", { input_schema })).toEqual([
      `arcp submit greet@1 --input '{"who":"…","times":0,"how":"it'\\''s"}'`
    ])
    expect(commandLines("any", {})).toEqual(["arcp submit any"])
  })
})

describe("the schema of an input, for people", () => {
  it("has short definitions where they are used, also in the command line to copy", () => {
    const Int = { type: "integer", description: "an integer", title: "int" }
    const Tree = {
      type: "object",
      properties: { of: { $ref: "#/$defs/Tree" }, size: { $ref: "#/$defs/Int" } }
    }
    const count = { $ref: "#/$defs/Int" }
    const schema = {
      type: "object",
      required: ["count", "tree"],
      properties: { count, tree: { $ref: "#/$defs/Tree" }, many: { type: "array", items: count } },
      $defs: { Int, Tree }
    }
    const readable = inlined(schema)
    expect(readable).toEqual({
      type: "object",
      required: ["count", "tree"],
      properties: { count: Int, tree: { $ref: "#/$defs/Tree" }, many: { type: "array", items: Int } },
      $defs: { Tree: { ...Tree, properties: { of: { $ref: "#/$defs/Tree" }, size: Int } } }
    })
    expect(commandLines("count", { input_schema: readable })).toEqual([
      `arcp submit count --input '{"count":0,"tree":null}'`
    ])
    expect(inlined({ $ref: "#/$defs/a~1b", $defs: { "a/b": Int } })).toEqual(Int)
    expect(inlined({ $ref: "#/$defs/Int", description: "how many", $defs: { Int } })).toEqual({
      ...Int,
      description: "how many"
    })
    const long = { description: "x".repeat(500) }
    const plain = { type: "object", properties: { $ref: { type: "string" } } }
    for (const as of [
      { $ref: "#/$defs/Long", $defs: { Long: long } },
      { ...plain, $defs: { Long: long } },
      plain
    ])
      expect(inlined(as)).toEqual(as)
  })
})

describe("an input that an agent does not take", () => {
  it("is answered with what is wrong, and where it is said what is right", async () => {
    await serving(["--memory", "--agents", "conformance", "--token", "mine=me"], async (address) => {
      const { code, stderr } = await run(["submit", "sleep", "--url", address, "--token", "mine"])
      expect(stderr).toMatch(/^error: INVALID_REQUEST: input\.ms: .*\n {2}arcp agents sleep shows/)
      expect(code).toBe(1)
    })
  })
})

it("arcp submit, jobs and watch say the same of how long a job took", async () => {
  await serving(["--memory", "--agents", "conformance", "--token", "secret=me"], async (address) => {
    const environment = { ARCP_URL: address, ARCP_TOKEN: "secret" }
    const submitted = await run(["submit", "sleep", "--input", '{"ms":150}'], environment)
    const took = Number(/^success in (\d+)ms, /m.exec(submitted.stderr)?.[1])
    const { stdout } = await run(["jobs"], environment)
    const [, job, listed] = /^(job_\w+) +success +\w+ +(\d+)ms/m.exec(stdout) ?? []
    const watched = await run(["watch", job ?? ""], environment)
    // The record of a job is written somewhat later than its last message is made.
    expect(Math.abs(Number(listed) - took)).toBeLessThan(100)
    expect(Number(/^success in (\d+)ms, /m.exec(watched.stderr)?.[1])).toBe(took)
  })
})

describe("arcp cancel", () => {
  it("is for whoever the runtime lets, and one who is refused takes nothing from the owner", async () => {
    const who = ["--token", "mine=me", "--token", "others=other", "--token", "ops=root", "--operator", "root"]
    await serving(["--memory", "--agents", "conformance", ...who], async (address) => {
      const environment = { ARCP_URL: address, XDG_STATE_HOME: join(folder, "state") }
      const as = (token: string, ...args: ReadonlyArray<string>) =>
        run(args, { ...environment, ARCP_TOKEN: token })
      const submitted = () => as("mine", "submit", "sleep", "--input", '{"ms":60000}', "--detach")
      const job = (await submitted()).stdout.trim()
      const stranger = await as("others", "cancel", job)
      expect(stranger).toMatchObject({ code: 1, stdout: "" })
      expect(stranger.stderr).toMatch(/JOB_NOT_FOUND/)
      // From another machine, where nothing is remembered, it is not the session that owns the job.
      const elsewhere = { ...environment, ARCP_TOKEN: "mine", XDG_STATE_HOME: join(folder, "elsewhere") }
      const away = await run(["cancel", job], elsewhere)
      expect(away.stderr).toMatch(
        /only the session that submitted.*--cancel principal.*--operator.*\n.*--detach/
      )
      expect(away.code).toBe(1)
      expect(await as("mine", "cancel", job)).toMatchObject({
        code: 0,
        stdout: `${job} is being cancelled\n`
      })
      const another = (await submitted()).stdout.trim()
      expect(await as("ops", "cancel", another)).toMatchObject({ code: 0 })
      expect((await as("mine", "watch", another)).code).toBe(3)
    })
  })

  it("says where to find a runtime that is not there", async () => {
    const { code, stderr } = await run(["cancel", "job_1", "--token", "t", "--url", "ws://127.0.0.1:9/arcp"])
    expect(stderr).toMatch(/nothing listens.*\n.*arcp serve/)
    expect(code).toBe(5)
  })
})

it.each(["127.0.0.1:7777", "http://127.0.0.1:7777/arcp", "localhost"])(
  "--url %s: what is no address of a runtime is a usage mistake",
  async (url) => {
    const { code, stderr } = await run(["jobs", "--token", "t", "--url", url])
    expect(stderr).toMatch(/is no WebSocket URL: use ws:/)
    expect(code).toBe(2)
  }
)

it.each([["submit", "echo"], ["jobs"], ["cancel", "job_1"], ["jobs", "delete", "job_1", "--running"]])(
  "arcp %s: a token that would travel readable is a usage mistake",
  async (...command) => {
    const far = [...command, "--token", "t", "--url", "ws://8.8.8.8/arcp"]
    const { code, stderr } = await run(far)
    expect(stderr).toMatch(/^error: --url: the token would travel readable to 8\.8\.8\.8: .*--insecure/)
    expect(stderr).not.toContain("allowInsecure")
    expect(code).toBe(2)
  }
)

it("with --json an error is one line of JSON on stderr, as a log is", async () => {
  await serving(["--memory", "--agents", "conformance", "--token", "secret=me"], async (address) => {
    const asked = async (token: string, ...args: ReadonlyArray<string>) => {
      const { code, stderr, stdout } = await run([...args, "--json"], {
        ARCP_URL: address,
        ARCP_TOKEN: token
      })
      return {
        code,
        stdout,
        said: stderr
          .trimEnd()
          .split("\n")
          .map((line) => JSON.parse(line))
      }
    }
    expect(await asked("wrong", "submit", "echo")).toMatchObject({
      code: 1,
      stdout: "",
      said: [{ type: "error", code: "UNAUTHENTICATED", hint: expect.stringContaining("--token") }]
    })
    expect((await asked("secret", "jobs", "--limit", "-1")).said).toEqual([
      { type: "error", message: "--limit takes a number of jobs, or 0 for all" }
    ])
    const failed = await asked("secret", "submit", "fail")
    expect(JSON.parse(failed.stdout.trimEnd().split("\n").at(-1) ?? "")).toMatchObject({ type: "job.error" })
    expect(failed.said).toMatchObject([{ type: "error" }])
  })
})

describe("what is printed", () => {
  it("has no control characters of others, whoever says it", () => {
    expect(safe("a\u001b[2Jb\u009bc\td\n")).toBe("a\ufffd[2Jb\ufffdc\td\n")
    expect(explain(new InternalError({ message: "no \u001b]0;luck\u0007" }))).toBe(
      "error: INTERNAL_ERROR: no \ufffd]0;luck\ufffd"
    )
  })

  it.each([
    [{ _tag: "TooBig", max: 30 }, 'TooBig: {"max":30}'],
    [{ _tag: "TooBig", message: "30 at most" }, "TooBig: 30 at most"],
    [{ _tag: "TooBig", message: "no", max: 30 }, 'TooBig: {"message":"no","max":30}'],
    [{ _tag: "Gone" }, "Gone"],
    [{ why: 1 }, 'the agent failed: {"why":1}'],
    ["busy", 'the agent failed: "busy"'],
    [null, "the agent failed: null"]
  ])("calls a failure that an agent declares by its name: %j", (failure, said) => {
    expect(explain(new InternalError({ message: "m", details: { error: failure } }))).toBe(`error: ${said}`)
  })

  it.each([
    ["fs.read", "/etc/passwd", 'fs.read "/etc/passwd"', "fs.read=/etc/passwd"],
    ["model.use", "gpt-5:mini", 'model.use "gpt-5:mini"', "model.use=gpt-5:mini"],
    // A pattern that is copied must allow no more than what is shown, and nothing else to be done.
    ["fs.read", "/**", 'fs.read "/**"', "fs.read=PATTERN"],
    ["fs.read", "/a'; rm -rf '/b", `fs.read "/a'; rm -rf '/b"`, "fs.read=PATTERN"],
    ["fs.read", "../a", 'fs.read "../a"', "fs.read=PATTERN"],
    ["fs.read", "/a/../b", 'fs.read "/a/../b"', "fs.read=PATTERN"],
    ["tool.call", "a\u001b[2J\u202eb", 'tool.call "a\\u001b[2J\\u202eb"', "tool.call=PATTERN"],
    ["net.fetch", "https://a.example/x", 'net.fetch "https://a.example/x"', "net.fetch=PATTERN"],
    ["fs.read", `/${"a".repeat(300)}`, `fs.read "/${"a".repeat(198)}…"`, "fs.read=PATTERN"]
  ])("says what a lease has refused, and the flag that would have allowed it: %s %j", (...given) => {
    const [capability, target, shown, flag] = given
    const error = new PermissionDenied({ message: "no", details: { capability, target } })
    expect(explain(error)).toBe(
      `error: PERMISSION_DENIED: no (${shown})\n  --lease '${flag}' allows it, see arcp submit --help`
    )
  })

  it.each([{}, { capability: 1, target: [] }, { capability: "a b'c\n", target: null }])(
    "of details that name nothing there is nothing to show: %j",
    (details) => {
      expect(explain(new PermissionDenied({ message: "no", details }))).toBe(
        "error: PERMISSION_DENIED: no\n  what a job may do is given with --lease, see arcp submit --help"
      )
    }
  )

  it("has no colours where nobody sees them", async () => {
    expect(plain("\u001b[0;1mUSAGE\u001b[0m")).toBe("USAGE")
    const { stdout } = await run(["submit", "--help"])
    expect(stdout).toMatch(/^Usage$/m)
    expect(stdout).not.toMatch(/\u001b/)
  })

  it("a bar is as long as it may be, whatever the runtime counts", () => {
    expect(bar({ current: 1, total: 2 })).toBe(`${"█".repeat(15)}${"░".repeat(15)} 50% 1/2`)
    expect(bar({ current: 9, total: 3 })).toMatch(/^█{30} /)
    expect(bar({ current: -9, total: 3 })).toMatch(/^░{30} /)
  })
})
