/** A cluster of Postgres of one's own, which syncs, from the binaries that are installed. */
import { spawn } from "node:child_process"
import { existsSync, readdirSync } from "node:fs"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"

/** Starts a cluster; it ends with this process. */
export const ownCluster = async () => {
  const debian = "/usr/lib/postgresql"
  const [version] = existsSync(debian) ? readdirSync(debian).sort((a, b) => b - a) : []
  if (version === undefined) {
    console.error("no Postgres: set ARCP_BENCH_PG to a URL, or install postgresql")
    process.exit(2)
  }
  const binaries = `${debian}/${version}/bin`
  const guard = spawn(
    process.execPath,
    [fileURLToPath(new URL("../test/testing/postgres-guard.mjs", import.meta.url)), binaries, "durable"],
    { stdio: ["pipe", "pipe", "inherit"] }
  )
  const { value } = await createInterface({ input: guard.stdout })[Symbol.asyncIterator]().next()
  return { binaries, url: value.split(" ")[1], stop: () => guard.stdin.end() }
}
