/**
 * `arcp`: reads the command line (`line.ts`), which is loaded with what is kept of the command that its first word names. Of
 * anything but a word, such as `--version`, nothing is kept.
 */
import { keepIn } from "./scripts.js"

const [word = ""] = process.argv.slice(2)
const kept = /^[a-z]{1,20}$/.test(word)
  ? (await import("./compiled.js")).keptOf(word, process.env)
  : undefined
if (kept !== undefined) keepIn(kept)

const { followLine } = await import("./line.js")
await followLine(() => kept?.writeOnceIdle())
