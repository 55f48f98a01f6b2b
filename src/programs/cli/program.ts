/**
 * `arcp`: reads the command line (`line.ts`), which is loaded with what is kept of the command that its first word names. Of
 * anything but a word, such as `--version`, nothing is kept. The thread that a server writes to its file with is begun before all else.
 */
import { keepIn } from "./scripts.js"

const [word = "", ...args] = process.argv.slice(2)
// Where it keeps everything elsewhere, or only says something, there is none.
const writes =
  (word === "serve" || word === "dev") &&
  process.env["ARCP_PG"] === undefined &&
  !args.some((arg) => /^(--(memory|pg|cluster|help|version)(=|$)|-h$)/.test(arg))
if (writes) (await import("../../layers/store/sqliteWorkerStart.js")).begin()

const kept = /^[a-z]{1,20}$/.test(word)
  ? (await import("./compiled.js")).keptOf(word, process.env)
  : undefined
if (kept !== undefined) keepIn(kept)

const { followLine } = await import("./line.js")
await followLine(() => kept?.writeOnceIdle())
