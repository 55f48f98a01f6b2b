// Fails when the lock file resolves more than one `effect`, or one of another major than 3.
import { readFileSync } from "node:fs"

const lock = JSON.parse(readFileSync(new URL("../package-lock.json", import.meta.url), "utf8"))
const found = Object.entries(lock.packages).filter(([path]) => /(^|\/)node_modules\/effect$/.test(path))
for (const [path, { version }] of found) console.log(`${path} ${version}`)
if (found.length !== 1 || !found[0][1].version.startsWith("3.")) {
  console.error("package-lock.json must resolve exactly one effect, of major 3")
  process.exit(1)
}
