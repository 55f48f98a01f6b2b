/** `arcp dev`: agents are loaded anew when they are saved, and jobs that have begun keep theirs. */
import { type ChildProcess, execFile, spawn } from "node:child_process"
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { afterAll, assert, beforeAll, describe, it } from "vitest"

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
  })
]
`
const word = (text: string) => `export const word: string = ${text}\n`

describe("arcp dev", () => {
  const folder = mkdtempSync(join(tmpdir(), "arcp-dev-"))
  let server: ChildProcess
  let url = ""
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
    server = spawn(process.execPath, [program, "dev", "./agents.ts", "--port", "0", "--token", "t=me"], {
      cwd: folder,
      stdio: ["ignore", "pipe", "pipe"]
    })
    for (const stream of [server.stdout, server.stderr])
      if (stream !== null)
        createInterface({ input: stream }).on("line", (line) => {
          lines.push(line)
          heard()
        })
    url = (await said(/^listening /)).slice("listening ".length)
    await said(/^console http/)
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
    assert.match(await said(/^not loaded/), /word\.ts|expression/i)
    assert.strictEqual(await run("submit", "hello"), "two")
    writeFileSync(join(folder, "word.ts"), word('"three"'))
    await said(/^loaded anew/)
    assert.strictEqual(await run("submit", "hello"), "three")
  })
})
