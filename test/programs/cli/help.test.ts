/** What the program says of itself: help, completions, and what was probably meant; and what that costs. */
import { execFileSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { describe, expect, it } from "vitest"
import { isGroup } from "../../../src/programs/cli/Command.js"
import { fitted } from "../../../src/programs/cli/columns.js"
import { commands, entries } from "../../../src/programs/cli/commands.js"
import { nearest } from "../../../src/protocol/suggest.js"
import { run } from "./inProcess.js"

const names = commands.map(({ name }) => name)

describe("help", () => {
  it("has one line for each command", async () => {
    const { code, stdout, stderr } = await run(["--help"])
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
    const shown = [
      ...entries,
      ...entries.flatMap((entry) => (isGroup(entry) && entry.alone ? entry.commands : []))
    ]
    for (const { name, summary } of shown)
      expect(stdout).toMatch(new RegExp(`^  ${name} +${summary.slice(0, 20)}`, "m"))
    expect(stdout).toMatch(/ARCP_TOKEN .*--token/)
    expect(stdout).not.toMatch(/--lease-file/)
    expect((await run([])).stdout).toBe(stdout)
    for (const line of stdout.split("\n")) expect(line.length, line).toBeLessThanOrEqual(80)
    for (const args of [["help"], ["help", "help"], ["help", "completions"], ["completions", "--help"]])
      expect((await run(args)).stdout).toBe(stdout)
  })

  it("of a group has its commands, and no line that is too long", async () => {
    for (const group of entries.filter(isGroup)) {
      const { code, stdout } = await run(["help", group.name])
      expect(code).toBe(0)
      for (const line of stdout.split("\n")) expect(line.length, line).toBeLessThanOrEqual(80)
      for (const { name } of group.commands) expect(stdout).toContain(`  ${name}`)
    }
  })

  it("says of a flag once what its default is, and that it may be repeated", () => {
    for (const command of commands)
      for (const { name, description, fallback, occurs } of Object.values(command.flags)) {
        if (occurs === "repeated") expect(description, name).not.toMatch(/repeatable/)
        if (fallback !== undefined) expect(description, name).not.toMatch(/default/)
      }
  })

  it.each(commands.map((command) => [command.name, command] as const))(
    "of %s has every flag, examples, and no line that is too long",
    async (name, command) => {
      const { code, stdout } = await run(["help", ...name.split(" ")])
      expect(code).toBe(0)
      for (const flag of Object.values(command.flags))
        expect(stdout).toMatch(new RegExp(`^  --${flag.name}\\b`, "m"))
      expect(stdout).toMatch(/^Examples$/m)
      for (const line of stdout.split("\n")) expect(line.length, line).toBeLessThanOrEqual(80)
      expect((await run([...name.split(" "), "--help"])).stdout).toBe(stdout)
      expect((await run([...name.split(" "), "-h", "--nope"])).stdout).toBe(stdout)
    }
  )

  it("says what is the default, and which variable stands in for a flag", async () => {
    const { stdout } = await run(["help", "jobs"])
    expect(stdout).toMatch(/--url URL .*also ARCP_URL/)
    expect((await run(["help", "serve"])).stdout).toMatch(/--port PORT .*default 7777/)
  })
})

describe("a mistake", () => {
  it.each([
    [["sumbit"], /sumbit is no command.*did you mean submit\?/],
    [["help", "job"], /did you mean jobs\?/],
    [["version"], /did you mean --version\?/],
    [["context", "remove", "x"], /did you mean rm\?/],
    [["--nope"], /flags follow a command/],
    [["jobs", "--statsu", "error"], /--statsu is no flag of arcp jobs; did you mean --status\?/],
    [["submit", "echo", "--time", "1"], /did you mean --timeout-sec\?/],
    [["jobs", "--status", "runing"], /--status takes .*not "runing"; did you mean running\?/],
    [["submit", "echo", "--timeout-sec", "soon"], /--timeout-sec takes a whole number, not "soon"/],
    [["submit", "echo", "--input", "--detach"], /--input needs a value/],
    [["submit", "echo", "--detach=yes"], /--detach takes no value/],
    [["submit", "echo", "--key", "a", "--key", "b"], /--key is given twice/],
    [["submit"], /arcp submit needs AGENT/],
    [["watch", "a", "b"], /arcp watch does not take "b"/],
    [["completions", "tcsh"], /bash, zsh, fish/]
  ])("%j is answered with what is meant", async (args, said) => {
    const { code, stdout, stderr } = await run(args)
    expect(stderr).toMatch(said)
    expect(stderr).toMatch(/\n {2}arcp .*--help/)
    expect(stdout).toBe("")
    expect(code).toBe(2)
  })

  it("is told in lines that fit the terminal, with no word broken; to a file as it is", () => {
    const text = `error: ${"word ".repeat(40).trim()}\n  ${"hint ".repeat(30).trim()}\n  ${"x".repeat(100)}`
    const lines = fitted(text, 80).split("\n")
    expect(lines.length).toBeGreaterThan(5)
    for (const line of lines.slice(0, -1)) expect(line.length).toBeLessThanOrEqual(80)
    expect(fitted(text, 80).replace(/\s+/g, " ")).toBe(text.replace(/\s+/g, " "))
    expect(fitted(text, Number.POSITIVE_INFINITY)).toBe(text)
  })

  it("that resembles nothing is taken for nothing", () => {
    expect(nearest("xyzzy", names)).toBeUndefined()
    expect(nearest("wacth", names)).toBe("watch")
    expect(nearest("w".repeat(1_000_000), names)).toBeUndefined()
  })
})

describe("completions", () => {
  it("bash completes commands, flags and values", async () => {
    const { stdout } = await run(["completions", "bash"])
    const complete = (...words: ReadonlyArray<string>) =>
      execFileSync(
        "bash",
        [
          "-c",
          `${stdout}\narcp() { [ "$*" = "context list --names" ] && printf 'prod\\nstage\\n'; }\nCOMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); _arcp; echo "\${COMPREPLY[@]}"`,
          "bash",
          "arcp",
          ...words
        ],
        { encoding: "utf8" }
      ).trim()
    expect(complete("su")).toBe("submit")
    expect(complete("submit", "--lea")).toBe("--lease --lease-file")
    expect(complete("jobs", "--status", "r")).toBe("running")
    expect(complete("help", "ser")).toBe("serve")
    expect(complete("cont")).toBe("context")
    expect(complete("context", "")).toBe("add list use show rm current --help")
    expect(complete("help", "context", "a")).toBe("add")
    expect(complete("context", "add", "--token")).toBe("--token-command --token-file --token")
    // The names come from the program.
    for (const words of [
      ["context", "use", "p"],
      ["jobs", "--context", "p"]
    ])
      expect(complete(...words)).toBe("prod")
  })

  it.each(["zsh", "fish"])("%s gets every command and flag", async (shell) => {
    const { stdout } = await run(["completions", shell])
    for (const command of commands)
      for (const { name } of Object.values(command.flags))
        expect(stdout).toMatch(new RegExp(`(--|-l )${name}\\b`))
  })
})

it("loads nothing of Effect before a command is asked for", () => {
  const seen = new Set<string>()
  const outside = new Set<string>()
  const walk = (file: string) => {
    if (seen.has(file)) return
    seen.add(file)
    for (const [, type, from = ""] of readFileSync(file, "utf8").matchAll(
      /^(?:import|export)( type)?\b[^"'()]*?from "([^"]+)"/gm
    )) {
      if (type !== undefined) continue
      if (from.startsWith(".")) walk(fileURLToPath(new URL(from.replace(/\.js$/, ".ts"), `file://${file}`)))
      else outside.add(from)
    }
  }
  for (const name of ["program", "line"])
    walk(fileURLToPath(new URL(`../../../src/programs/cli/${name}.ts`, import.meta.url)))
  expect(seen.size).toBeGreaterThan(8)
  expect([...outside].filter((name) => !name.startsWith("node:"))).toEqual([])
})
