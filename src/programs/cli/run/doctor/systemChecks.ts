/** Checks of what a runtime runs on: Node, its SQLite, the port, and the file of contexts. */
import * as fs from "node:fs"
import { createServer } from "node:net"
import * as Effect from "effect/Effect"
import { loadDriver, substitute } from "../../../../layers/store/sqliteDriver.js"
import { fileProblem } from "../../../../services/runtime/fileProblem.js"
import { location } from "../../contexts.js"
import { type Finding, findings, guarded } from "./finding.js"

/** What `engines` of the package says. */
const oldest = [20, 19] as const

export const checkNode = (version: string): Finding => {
  const { fail, ok } = findings("node")
  const [major = 0, minor = 0] = version.split(".").map(Number)
  return major > oldest[0] || (major === oldest[0] && minor >= oldest[1])
    ? ok(version)
    : fail(`${version} is too old`, `install Node ${oldest.join(".")} or newer`)
}

const checkDriver: Effect.Effect<Finding> = Effect.promise(async () => {
  const { fail, ok } = findings("sqlite")
  try {
    const database = (await loadDriver()).open(":memory:")
    const version = String(database.prepare("SELECT sqlite_version()").values([])[0]?.[0])
    await database.close()
    const [major = 0, minor = 0] = process.versions.node.split(".").map(Number)
    const builtIn = major > 22 || (major === 22 && minor >= 16)
    return ok(`${version}, ${builtIn ? "of Node" : `of ${substitute}`}`)
  } catch (cause) {
    return fail(`there is none: ${fileProblem(cause)}`, `use Node 22.16 or newer, or npm i ${substitute}`)
  }
})

const whyNotBound = (host: string, port: number): Promise<NodeJS.ErrnoException | undefined> =>
  new Promise((resolve) => {
    const server = createServer()
    server.once("error", resolve)
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(undefined)))
  })

const checkPort = (host: string, port: number, holder: string | undefined): Effect.Effect<Finding> =>
  Effect.promise(async () => {
    const { fail, ok } = findings("port")
    if (port === 0) return ok("any free one")
    const error = await whyNotBound(host, port)
    if (error === undefined) return ok(`${host}:${port} is free`)
    if (error.code === "EADDRINUSE")
      return holder === undefined
        ? fail(`${host}:${port} is taken by another program`, "end that one, or choose another with --port")
        : ok(`${host}:${port} is taken, while ${holder}`)
    return error.code === "EACCES"
      ? fail(`${host}:${port} is not for this user`, "choose one from 1024 on, behind a proxy")
      : fail(
          `${host}:${port} cannot be listened on: ${error.message}`,
          "choose an address of this machine with --host"
        )
  })

/** The file of contexts may hold tokens. */
const contextsIn = (file: string): Finding => {
  const { ok, warn } = findings("contexts")
  const stat = fs.statSync(file, { throwIfNoEntry: false })
  if (stat === undefined) return ok("none are kept")
  return process.geteuid !== undefined && (stat.mode & 0o077) !== 0
    ? warn(`${file} can be read by other users, and may hold tokens`, `chmod 600 ${file}`)
    : ok(file)
}

const checkContexts = Effect.flatMap(location, (file) =>
  guarded(
    "contexts",
    file,
    Effect.sync(() => contextsIn(file))
  )
)

/** Returns what is found about the machine. A runtime on it that has the store may be who has the port. */
export const systemChecks = (options: {
  readonly host: string
  readonly port: number
  /** Who that is, as a sentence: `process 12 has the file`. */
  readonly holder: string | undefined
}) =>
  Effect.gen(function* () {
    return [
      checkNode(process.versions.node),
      yield* checkDriver,
      yield* checkPort(options.host, options.port, options.holder),
      yield* checkContexts
    ]
  })
