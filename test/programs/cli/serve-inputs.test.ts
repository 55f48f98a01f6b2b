/** What `arcp serve` says of flags, variables and files that it cannot use: before it says that it starts, and by name. */
import { execFileSync, spawn } from "node:child_process"
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { commands } from "../../../src/programs/cli/commands.js"
import { run } from "./inProcess.js"

const folder = mkdtempSync(join(tmpdir(), "arcp-serve-inputs-"))
const at = (name: string) => join(folder, name)
const socket = createServer()
afterAll(async () => {
  await new Promise((resolve) => socket.close(resolve))
  rmSync(folder, { recursive: true, force: true })
})

beforeAll(async () => {
  mkdirSync(at("folder"))
  symlinkSync("nowhere", at("dangling"))
  symlinkSync("circle", at("circle"))
  writeFileSync(at("text"), "some text")
  symlinkSync("text", at("link"))
  writeFileSync(at("empty"), "")
  writeFileSync(
    at("binary"),
    Uint8Array.from({ length: 3_000 }, (_, i) => (i * 151) % 256)
  )
  writeFileSync(at("object"), '{"some": "object"}')
  execFileSync("mkfifo", [at("fifo")])
  await new Promise<void>((resolve) => socket.listen(at("socket"), resolve))
})

/** Refused before anything begins. */
const refuses = async (
  args: ReadonlyArray<string>,
  said: RegExp,
  environment: Readonly<Record<string, string>> = {},
  code = 2
) => {
  const result = await run(["serve", "--port", "0", ...args], environment)
  expect(result.stderr).toMatch(said)
  expect(result.stderr).not.toMatch(/ starts with \d|\n\s+at |sekrit/)
  expect([result.code, result.stdout]).toEqual([code, ""])
}

const missing = /there is no such file/
const unread = {
  missing,
  dangling: missing,
  circle: /its links lead in a circle/,
  folder: /it is a directory/,
  socket: /ENXIO|neither a file nor a pipe/
}
/** What a flag says of what can be read, and is not what it takes. */
const others = (said: RegExp) => ({
  text: said,
  link: said,
  empty: said,
  binary: said,
  object: said,
  fifo: said
})

const flags: ReadonlyArray<
  readonly [flag: string, more: ReadonlyArray<string>, kinds: Readonly<Record<string, RegExp>>]
> = [
  [
    "--agents",
    [],
    {
      ...unread,
      folder: /does not load: it is no file/,
      socket: /does not load: it is no file/,
      fifo: /does not load: it is no file/,
      text: /does not load: /,
      link: /does not load: /,
      empty: /must export agents, for example/,
      binary: /does not load: /,
      object: /does not load: /
    }
  ],
  ["--identities", [], { ...unread, ...others(/: (not JSON|identities: expected an array)/) }],
  ["--jwt-public-key", [], { ...unread, ...others(/is not a public RSA, EC or Ed25519 key/) }],
  [
    "--webhook-secret-file",
    ["--webhook", "http://127.0.0.1:9/hook"],
    { ...unread, ...others(/holds no secret|whsec_ and 24 to 64 bytes/) }
  ],
  [
    "--workspace",
    [],
    { ...unread, folder: /./, socket: /it is no directory/, ...others(/it is no directory/) }
  ]
]

describe.each(flags)("%s", (flag, more, kinds) => {
  const tried = Object.entries(kinds).filter(([kind]) => !(flag === "--workspace" && kind === "folder"))
  it.each(tried)("that names what is %s", async (kind, said) => {
    // Whoever makes a pipe for a command writes to it, or closes it.
    const writer = kind === "fifo" ? spawn("sh", ["-c", `: > '${at("fifo")}'`]) : undefined
    try {
      await refuses(
        ["--memory", ...more, flag, at(kind)],
        new RegExp(`^error: ${flag}:? .*(${said.source})`, "m")
      )
    } finally {
      writer?.kill("SIGKILL")
    }
  })
})

const kindsOfDb = {
  circle: /its links lead in a circle/,
  folder: /is a directory; name a file in it/,
  fifo: /is not a regular file/,
  socket: /is not a regular file/,
  text: /is not a SQLite database/,
  link: /is not a SQLite database/,
  binary: /is not a SQLite database/,
  object: /is not a SQLite database/
}
describe("--db", () => {
  it.each(Object.entries(kindsOfDb))("that names what is %s", (kind, said) =>
    refuses(["--db", at(kind)], new RegExp(`^error: --db ${at(kind)}:? .*${said.source}`, "m"), {}, 1)
  )
})

it("a lock that is a link, a folder or a pipe is not followed", async () => {
  symlinkSync("elsewhere", at("linked.db.lock"))
  mkdirSync(at("foldered.db.lock"))
  execFileSync("mkfifo", [at("piped.db.lock")])
  for (const [name, said] of [
    ["linked", "is a link"],
    ["foldered", "is not a regular file"],
    ["piped", "is not a regular file"]
  ])
    await refuses(["--db", at(`${name}.db`)], new RegExp(`${name}\\.db\\.lock ${said}, .*remove it`), {}, 1)
  expect(existsSync(at("elsewhere"))).toBe(false)
})

it("no flag takes an empty text, and no word is empty", async () => {
  for (const command of commands)
    for (const flag of Object.values(command.flags).filter(({ kind }) => kind === "text")) {
      const { code, stderr } = await run([...command.name.split(" "), `--${flag.name}=`])
      expect(stderr).toMatch(new RegExp(`^error: --${flag.name} takes \\S+, and this is empty`))
      expect(code).toBe(2)
    }
  const { code, stderr } = await run(["watch", ""])
  expect([code, stderr.split("\n")[0]]).toEqual([2, "error: JOB of arcp watch is empty: a job id, job_…"])
})

const values: ReadonlyArray<readonly [flag: string, said: RegExp, values: ReadonlyArray<string>]> = [
  ["--host", /has to be the name of a host or an address/, [" ", "http://[::", "127.0.0.1:80", "a/b"]],
  ["--path", /has to be a path that starts with a \//, ["arcp", "/a b", "/arcp?x=1", "/#top"]],
  [
    "--allow-origin",
    /has to be an origin/,
    [" ", "app.example.com", "https://app.example.com/", "https://", "http://[::", "https://a@b.c"]
  ],
  [
    "--allow-host",
    /has to be the name of a host/,
    ["*", "https://a.example", "a.example:443", "a.example/", "me@a.example", "[::1"]
  ],
  ["--trust-proxy", /neither an IP address/, ["10.0.0.0/33", "proxy.example.com"]],
  [
    "--pg",
    /takes postgres:\/\/USER:/,
    [" ", "sekrit", "http://sekrit@h/db", "postgres://", "postgres://[::"]
  ],
  ["--token", /takes TOKEN=PRINCIPAL/, ["sekrit", "=alice", "sekrit=", "sekrit= ", " =alice"]],
  ["--jwt-jwks", /the JWKS address/, ["keys.json", "ftp://id.example.com/keys", "http://id.example.com/k"]],
  ["--operator", /takes a PRINCIPAL/, [" "]],
  ["--observer", /takes a PRINCIPAL/, ["\t"]],
  ["--metrics-token", /takes a token: letters/, [" ", "two words", "sekrét"]]
]
describe.each(values)("%s", (flag, said, odd) => {
  it.each(odd)("%j", (value) =>
    refuses(
      [...(flag === "--pg" ? [] : ["--memory"]), `${flag}=${value}`],
      new RegExp(`^error: ${flag}.*${said.source}`, "m")
    )
  )
})

const litellm = { ARCP_LITELLM_KEY: "sk-sekrit" }
type Variable = readonly [name: string, value: string, said: RegExp, more?: Readonly<Record<string, string>>]
const variables: ReadonlyArray<Variable> = [
  ["ARCP_TOKENS", "", /entry 1 is not token=principal/],
  ["ARCP_TOKENS", "sekrit", /entry 1 is not token=principal/],
  ["ARCP_TOKENS", "sekrit=a,sekrit=b", /entry 2 repeats an earlier token/],
  ["ARCP_TOKENS", "sekrit=a,", /entry 2 is not token=principal/],
  ["ARCP_JWT_SECRET", "", /the JWT secret is empty/],
  ["ARCP_PG", "", /takes postgres:\/\/USER:/],
  ["ARCP_PG", "mysql://sekrit@db/arcp", /takes postgres:\/\/USER:/],
  ["ARCP_METRICS_TOKEN", "two words", /takes a token: letters/],
  ["ARCP_LITELLM_URL", "", /URL/, litellm],
  ["ARCP_LITELLM_URL", "gateway", /URL/, litellm],
  ["ARCP_LITELLM_URL", "ftp://gateway", /URL/, litellm],
  ["ARCP_LITELLM_KEY", "", /key/, { ARCP_LITELLM_URL: "http://127.0.0.1:9" }],
  [
    "ARCP_LITELLM_MAX_BUDGET",
    "much",
    /maxBudget must be a decimal/,
    { ARCP_LITELLM_URL: "http://127.0.0.1:9", ...litellm }
  ]
]
describe("variables", () => {
  it.each(variables.map(([name, value, said, more = {}]) => [name, value, said, more] as const))(
    "%s=%j",
    (name, value, said, more) => {
      const where =
        name === "ARCP_PG"
          ? []
          : name.startsWith("ARCP_LITELLM")
            ? ["--db", at(`new-${value.length}.db`)]
            : ["--memory"]
      return refuses(where, new RegExp(`^error: ${name}.*${said.source}`, "m"), { ...more, [name]: value })
    }
  )

  it("a gateway without its key", () =>
    refuses(["--db", at("keyless.db")], /^error: ARCP_LITELLM_KEY: /m, {
      ARCP_LITELLM_URL: "http://127.0.0.1:9"
    }))
})

it("two sources of keys are one too many", () =>
  refuses(
    ["--memory", "--jwt-secret", "sekrit", "--jwt-jwks", "https://id.example.com/keys"],
    /^error: choose one of --jwt-secret and --jwt-jwks/m
  ))
