/** Compiled code is kept only where nobody else can put another in its place: whoever could would decide what runs. */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, expect, it } from "vitest"
import { keptOf } from "../../../src/programs/cli/compiled.js"

const root = mkdtempSync(join(tmpdir(), "arcp-compiled-"))
afterAll(() => rmSync(root, { recursive: true }))

let made = 0
/** What is kept with this as the folder for caches; Node's own cache is left alone. */
const keptIn = (prepare: (cache: string) => void) => {
  const cache = join(root, `${++made}`)
  mkdirSync(cache)
  prepare(cache)
  return keptOf("serve", { XDG_CACHE_HOME: cache, NODE_COMPILE_CACHE: "as it is" })
}

it("keeps in a folder of this user's", () => {
  expect(keptIn(() => {})).toBeDefined()
  // As /tmp is: everybody may write there, and move what is their own.
  expect(keptIn((cache) => chmodSync(cache, 0o1777))).toBeDefined()
})

it.each<readonly [string, (cache: string) => void]>([
  ["everybody may write to", (cache) => mkdirSync(join(cache, "effect-arcp"), { mode: 0o700 })],
  ["a link is in the place of", (cache) => symlinkSync(root, join(cache, "effect-arcp"))]
])("keeps nothing in one that %s, or could", (what, prepare) => {
  expect(
    keptIn((cache) => {
      prepare(cache)
      if (what.startsWith("everybody")) chmodSync(cache, 0o777)
    })
  ).toBeUndefined()
  expect(
    keptIn((cache) => {
      mkdirSync(join(cache, "effect-arcp"))
      chmodSync(join(cache, "effect-arcp"), 0o777)
    })
  ).toBeUndefined()
})
