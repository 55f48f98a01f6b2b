/**
 * A real Postgres for tests: the one that `ARCP_TEST_PG` names, or else a cluster of its own from the binaries that are
 * installed here. Without either the suites that need one are skipped, and say why.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { existsSync, readdirSync } from "node:fs"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import pg from "pg"

/** Where Debian has the binaries of each major version, and where else they may be. */
const folders = (): ReadonlyArray<string> => {
  const debian = "/usr/lib/postgresql"
  const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : []
  return [
    ...versions.map((version) => join(debian, version, "bin")),
    ...(process.env["PATH"] ?? "").split(":")
  ]
}

const binaries = folders().find((folder) =>
  ["initdb", "postgres"].every((name) => existsSync(join(folder, name)))
)

const given = process.env["ARCP_TEST_PG"]

/** Why there is no Postgres here; `undefined` when there is one. */
export const missing: string | undefined =
  given !== undefined || (binaries !== undefined && process.platform !== "win32")
    ? undefined
    : "no Postgres: set ARCP_TEST_PG to a URL, or install postgresql"

/** Why a cluster of a test's own cannot be made; `undefined` when it can. */
export const missingBinaries: string | undefined =
  binaries === undefined ? "no binaries of Postgres: install postgresql" : undefined

/** A cluster of a test's own. */
export interface Cluster {
  readonly url: string
  /** Ends the server as an operator would, or as a crash does; starts it again. */
  readonly command: (command: "stop" | "kill" | "start") => Promise<void>
  readonly close: () => Promise<void>
}

/** Starts a cluster, which is gone with this process. */
export const cluster = async (): Promise<Cluster> => {
  if (binaries === undefined) throw new Error(missingBinaries)
  const guard: ChildProcess = spawn(
    process.execPath,
    [fileURLToPath(new URL("./postgres-guard.mjs", import.meta.url)), binaries],
    { stdio: ["pipe", "pipe", "inherit"] }
  )
  const { stdin, stdout } = guard
  if (stdin === null || stdout === null) throw new Error("the guard of Postgres has no streams")
  const lines = createInterface({ input: stdout })[Symbol.asyncIterator]()
  const next = async (): Promise<string> => {
    const { done, value } = await lines.next()
    if (done) throw new Error("the guard of Postgres has ended")
    return value
  }
  const [, url] = (await next()).split(" ")
  return {
    url: url ?? "",
    command: async (command) => {
      stdin.write(`${command}\n`)
      await next()
    },
    close: async () => {
      const exited = new Promise((resolve) => guard.once("exit", resolve))
      stdin.end()
      await exited
    }
  }
}

let shared: Promise<string> | undefined
const server = (): Promise<string> => {
  shared ??= given === undefined ? cluster().then(({ url }) => url) : Promise.resolve(given)
  return shared
}

/** Runs statements as the user of a URL. */
export const query = async (
  url: string,
  text: string,
  values: ReadonlyArray<unknown> = []
): Promise<ReadonlyArray<ReadonlyArray<unknown>>> => {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    const { rows } = await client.query({ text, values: [...values], rowMode: "array" })
    return rows
  } finally {
    await client.end()
  }
}

/** Returns the URL of a database of the same server. */
export const inDatabase = (url: string, database: string): string => {
  const other = new URL(url)
  other.pathname = `/${database}`
  return other.href
}

/** Makes a database; `drop` removes it. */
export const database = async (): Promise<{ readonly url: string; readonly drop: () => Promise<void> }> => {
  const admin = await server()
  const name = `arcp_test_${process.pid}_${Math.random().toString(36).slice(2, 10)}`
  await query(admin, `CREATE DATABASE ${name} TEMPLATE template0`)
  return {
    url: inDatabase(admin, name),
    drop: async () => {
      await query(admin, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`)
    }
  }
}
