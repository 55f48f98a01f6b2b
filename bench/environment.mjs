/** What a reader must know about the machine to read the figures. */
import { closeSync, fsyncSync, openSync, rmSync, statfsSync, writeSync } from "node:fs"
import { cpus, loadavg, totalmem } from "node:os"
import { join } from "node:path"
import { median } from "./stats.mjs"

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

/** Facts for the JSON report, and the same as lines of Markdown. */
export const environment = (directory) => {
  const facts = {
    node: process.version,
    platform: `${process.platform} ${process.arch}`,
    cpu: cpus()[0]?.model ?? "unknown",
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 1024 ** 3),
    loadBefore: loadavg()[0],
    fsyncMs: fsyncMs(directory),
    inMemoryFileSystem: statfsSync(directory).type === tmpfs
  }
  const lines = [
    `Node ${facts.node}, ${facts.platform}, ${facts.cores} × ${facts.cpu.trim()}, ${facts.memoryGiB} GiB; ` +
      `load ${facts.loadBefore.toFixed(1)} before; write + fsync of 4 KiB ${facts.fsyncMs.toFixed(2)} ms.`
  ]
  if (facts.inMemoryFileSystem)
    lines.push("", "The databases are in memory (tmpfs): FULL costs nothing here. Use `--dir` with a disk.")
  return { facts, lines }
}
