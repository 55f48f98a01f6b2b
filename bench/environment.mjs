/** What a reader must know about the machine to read the figures. */
import { closeSync, fsyncSync, mkdtempSync, openSync, rmSync, statfsSync, writeSync } from "node:fs"
import { cpus, loadavg, totalmem } from "node:os"
import { join } from "node:path"
import { median, percentiles } from "./stats.mjs"

const tmpfs = 0x01021994

/** Milliseconds to write and sync 4 KiB in `directory`: what one commit on SQLite FULL cannot beat. */
const fsyncMs = (directory) => {
  const file = join(directory, `arcp-bench-fsync-${process.pid}`)
  const page = Buffer.alloc(4096)
  const samples = []
  const fd = openSync(file, "w")
  try {
    for (let i = 0; i < 50; i++) {
      const from = performance.now()
      writeSync(fd, page)
      fsyncSync(fd)
      samples.push(performance.now() - from)
    }
  } finally {
    closeSync(fd)
    rmSync(file)
  }
  return median(samples)
}

/** Milliseconds of a transaction that inserts one row of 400 bytes into a SQLite file of its own, p50 and p99. */
const commitMs = async (directory, synchronous) => {
  const base = mkdtempSync(join(directory, "arcp-bench-commit-"))
  const { loadDriver } = await import("../dist/layers/store/sqliteDriver.js")
  const database = (await loadDriver()).open(join(base, "commit.db"))
  const run = (sql, params = []) => database.prepared(sql).run(params)
  try {
    run("PRAGMA journal_mode = WAL")
    run(`PRAGMA synchronous = ${synchronous}`)
    run("CREATE TABLE events (seq INTEGER PRIMARY KEY, payload TEXT NOT NULL)")
    const samples = []
    for (let i = 0; i < 300; i++) {
      const from = performance.now()
      run("INSERT INTO events (payload) VALUES (?)", ["x".repeat(400)])
      samples.push(performance.now() - from)
    }
    return percentiles(samples.slice(50))
  } finally {
    await database.close()
    rmSync(base, { recursive: true, force: true })
  }
}

/** Facts for the JSON report, and the same as lines of Markdown. */
export const environment = async (directory) => {
  const facts = {
    node: process.version,
    platform: `${process.platform} ${process.arch}`,
    cpu: cpus()[0]?.model ?? "unknown",
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 1024 ** 3),
    loadBefore: loadavg()[0],
    fsyncMs: fsyncMs(directory),
    commitMs: { FULL: await commitMs(directory, "FULL"), NORMAL: await commitMs(directory, "NORMAL") },
    inMemoryFileSystem: statfsSync(directory).type === tmpfs
  }
  const lines = [
    `Node ${facts.node}, ${facts.platform}, ${facts.cores} × ${facts.cpu.trim()}, ${facts.memoryGiB} GiB; ` +
      `load ${facts.loadBefore.toFixed(1)} before; write + fsync of 4 KiB ${facts.fsyncMs.toFixed(2)} ms; ` +
      `a commit of one row ${["FULL", "NORMAL"].map((mode) => `${facts.commitMs[mode].p50.toFixed(2)} ms (${mode})`).join(", ")}.`
  ]
  if (facts.inMemoryFileSystem)
    lines.push("", "The databases are in memory (tmpfs): FULL costs nothing here. Use `--dir` with a disk.")
  return { facts, lines }
}
