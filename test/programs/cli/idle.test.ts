/** A flag that nobody would look at in the way a command is used is refused, or warned of where a server starts all the same. */
import { existsSync, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, describe, expect, it } from "vitest"
import { idle } from "../../../src/programs/cli/Command.js"
import { commands } from "../../../src/programs/cli/commands.js"
import { run } from "./inProcess.js"

const folder = mkdtempSync(join(tmpdir(), "arcp-cli-idle-"))
afterAll(() => rmSync(folder, { recursive: true }))
const none = join(folder, "none.db")

describe("flags that say nothing", () => {
  const url = "ws://127.0.0.1:1/arcp"
  it.each<readonly [string, ReadonlyArray<string>, RegExp]>([
    ["a server's address, of a file", ["jobs", "delete", "job_a", "--url", url], /--url is for --running/],
    ["a token, of a file", ["jobs", "delete", "job_a", "--token", "t"], /--token is for --running/],
    ["a context, of a file", ["jobs", "delete", "job_a", "--context", "c", "--dry-run"], /--context is for/],
    ["--insecure, of a file", ["jobs", "delete", "job_a", "--insecure", "--db", none], /--insecure is for/],
    [
      "a file, of a server",
      ["jobs", "delete", "job_a", "--running", "--token", "t", "--db", none],
      /--db names what no server has/
    ],
    [
      "a Postgres, of a server",
      ["jobs", "delete", "--principal", "p", "--running", "--token", "t", "--pg", "postgres://h/d"],
      /--pg names what no server has/
    ],
    ["--after, of steps", ["replay", "--job", "j", "--steps", "--after", "3"], /--after is for events/],
    ["--after, of a tree", ["replay", "--job", "j", "--tree", "--after=3"], /--after is for events/],
    ["a file and a Postgres", ["doctor", "--db", none, "--pg", "postgres://h/d"], /--db FILE and --pg URL/],
    [
      "the usual file, named, and a Postgres",
      ["sessions", "--db", ".arcp/arcp.db", "--pg", "postgres://h/d"],
      /--db FILE and --pg URL/
    ],
    ["an option twice", ["db", "stats", "--limit", "jobRetention=1h", "--limit", "jobRetention=2h"], /twice/]
  ])("%s: refused", async (_, args, said) => {
    expect(await run(args)).toMatchObject({ code: 2, stdout: "", stderr: expect.stringMatching(said) })
    expect(existsSync(none)).toBe(false)
  })

  it("what stands in the environment is for whoever may use it", async () => {
    const environment = { ARCP_URL: url, ARCP_TOKEN: "t", ARCP_CONTEXT: "c" }
    const said = await run(["jobs", "delete", "job_a", "--db", none, "--dry-run"], environment)
    expect(said).toMatchObject({ code: 1, stderr: expect.stringMatching(/none\.db does not exist/) })
  })

  it("a file that is named goes before the Postgres of the environment, also the usual one", async () => {
    const before = process.cwd()
    process.chdir(folder)
    try {
      const environment = { ARCP_PG: "postgres://127.0.0.1:1/none" }
      for (const args of [["sessions"], ["replay", "--job", "j"], ["top", "--count", "1"]])
        expect((await run([...args, "--db", ".arcp/arcp.db"], environment)).stderr).toMatch(
          /--db \.arcp\/arcp\.db does not exist/
        )
      const looked = await run(["doctor", "--port", "0", "--db", ".arcp/arcp.db", "--json"], environment)
      expect(looked.stdout).toMatch(/\.arcp/)
      expect(looked.stdout).not.toMatch(/postgres:/i)
    } finally {
      process.chdir(before)
    }
  })

  it("a server over stdin and stdout, or in memory, is warned of, and starts", () => {
    const serve = commands.find(({ name }) => name === "serve")
    const written = (...flags: ReadonlyArray<readonly [string, string]>) => ({
      texts: new Map(flags.map(([name, value]) => [name, [value]])),
      inherited: new Set<string>(),
      words: []
    })
    const warned = (...flags: ReadonlyArray<readonly [string, string]>) => {
      expect(idle(serve?.onlys ?? [], written(...flags), false)).toEqual([])
      return idle(serve?.onlys ?? [], written(...flags), true).map((said) => said.split(" ")[0])
    }
    const stdio = ["transport", "stdio"] as const
    expect(warned(stdio, ["port", "0"], ["metrics", "all"], ["memory", "true"])).toEqual([
      "--port",
      "--metrics"
    ])
    expect(warned(["port", "0"], ["metrics", "all"])).toEqual([])
    expect(warned(["memory", "true"], ["synchronous", "NORMAL"])).toEqual(["--synchronous"])
    expect(warned(["memory", "false"], ["synchronous", "NORMAL"])).toEqual([])
  })

  it("only flags that there are", () => {
    for (const { flags, name, onlys } of commands)
      for (const only of onlys)
        for (const flag of only.flags)
          expect(
            // `arcp dev` has one more.
            flag === "open" || Object.values(flags).some((known) => known.name === flag),
            `${name} --${flag}`
          ).toBe(true)
  })
})
