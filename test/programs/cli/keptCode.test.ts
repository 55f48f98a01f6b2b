/** What is kept of compiled scripts is taken when it is what V8 would compile, and else not. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import { Script } from "node:vm"
import { afterAll, expect, it } from "vitest"
import { KeptCode } from "../../../src/programs/cli/keptCode.js"

const root = mkdtempSync(join(tmpdir(), "arcp-kept-"))
afterAll(() => rmSync(root, { recursive: true }))

let folders = 0
const folder = () => mkdtempSync(join(root, `${++folders}-`))

/** Compiles a text in a start of its own, that ends; returns whether what was kept was given to V8, and taken. */
const start = (at: string, url: string, text: string) => {
  const kept = new KeptCode(at, "serve")
  let given = false
  const script = kept.compile(url, Buffer.from(text), (cachedData) => {
    given = cachedData !== undefined
    return new Script(text, { filename: url, cachedData })
  })
  const value: unknown = script.runInThisContext()
  kept.write()
  return { taken: given && script.cachedDataRejected === false, value }
}

/** Scripts that are there; what they are is given. */
const address = (name: string): string => {
  const file = join(root, name)
  writeFileSync(file, "")
  return pathToFileURL(file).href
}
const [first, second] = [address("first.js"), address("second.js")]

const one = "(() => { const f = () => 1; return f() })()"
const two = "(() => { const f = () => 2; return f() })()"

it("takes at the next start what it kept, of each script", () => {
  const at = folder()
  for (const taken of [false, true]) {
    expect(start(at, first, one)).toEqual({ taken, value: 1 })
    expect(start(at, second, two)).toEqual({ taken, value: 2 })
  }
  expect(readdirSync(at)).toHaveLength(1)
})

it("does not take what was kept of another text of the same length, and keeps that then", () => {
  const at = folder()
  start(at, first, one)
  expect(start(at, first, two)).toEqual({ taken: false, value: 2 })
  expect(start(at, first, two)).toEqual({ taken: true, value: 2 })
})

it("takes nothing of a file in which a bit has changed, wherever that is, or that is cut", () => {
  const at = folder()
  start(at, first, one)
  const file = join(at, readdirSync(at)[0] as string)
  const whole = readFileSync(file)
  for (let i = 0; i < whole.length; i += 97) {
    const broken = Buffer.from(whole)
    broken[i] = (broken[i] as number) ^ 1
    writeFileSync(file, broken)
    expect(start(at, first, one)).toEqual({ taken: false, value: 1 })
    writeFileSync(file, whole.subarray(0, i))
    expect(start(at, first, one)).toEqual({ taken: false, value: 1 })
  }
  expect(readFileSync(file).equals(whole) || start(at, first, one).taken).toBe(true)
})

it("forgets scripts that are not there any more, when it writes", () => {
  const at = folder()
  const size = () => readFileSync(join(at, readdirSync(at)[0] as string)).length
  start(at, first, one)
  const alone = size()
  start(at, pathToFileURL(join(root, "of-before.js")).href, two)
  expect(size()).toBeGreaterThan(alone * 1.5)
  start(at, first, two)
  expect(size()).toBeLessThan(alone * 1.1)
})

it("does without where nothing can be written", () => {
  const at = join(folder(), "gone")
  expect(start(at, first, one)).toEqual({ taken: false, value: 1 })
  expect(start(at, first, one)).toEqual({ taken: false, value: 1 })
})
