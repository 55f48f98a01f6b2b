/**
 * What V8 has compiled of the program's scripts, in a file for the next start: also of functions, once they have run. V8
 * takes back only what it wrote itself, with the same version and flags. What it does not see is looked at here: that the
 * file is whole, and that a script is still the same. Where `node:v8` or `node:zlib` lack what this needs, as they may in other
 * runtimes than Node, that is found when a `KeptCode` is made, and not when this is loaded.
 */
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { performance } from "node:perf_hooks"
import * as v8 from "node:v8"
import type { Script } from "node:vm"
import * as zlib from "node:zlib"

/** What is kept of a script: the sum of its text, and the code. */
interface Piece {
  readonly sum: number
  readonly code: Buffer
}

/** Milliseconds for which a process has to be idle to have started, and the share of them in which it may do something. */
const idleMs = 1_000
const mostlyIdle = 0.5

/** Bytes of the sum of what follows, and of the length of the list of pieces. */
const headBytes = 8

const written = (pieces: ReadonlyMap<string, Piece>): Buffer => {
  const list = Buffer.from(
    JSON.stringify(Array.from(pieces, ([url, { code, sum }]) => [url, sum, code.length]))
  )
  const all = Buffer.concat([
    Buffer.alloc(headBytes),
    list,
    ...Array.from(pieces.values(), ({ code }) => code)
  ])
  all.writeUInt32LE(list.length, 4)
  all.writeUInt32LE(zlib.crc32(all.subarray(4)), 0)
  return all
}

/** Returns what is in a file; nothing, when there is none that is whole. */
const readPieces = (file: string): Map<string, Piece> => {
  const pieces = new Map<string, Piece>()
  try {
    const all = readFileSync(file)
    if (all.length < headBytes || all.readUInt32LE(0) !== zlib.crc32(all.subarray(4))) return pieces
    let at = headBytes + all.readUInt32LE(4)
    const list = JSON.parse(all.toString("utf8", headBytes, at)) as ReadonlyArray<[string, number, number]>
    for (const [url, sum, length] of list) {
      pieces.set(url, { sum, code: all.subarray(at, at + length) })
      at += length
    }
  } catch {
    // There is none yet.
  }
  return pieces
}

/** The code of the scripts that one command is made of. */
export class KeptCode {
  private readonly tag = v8.cachedDataVersionTag()
  private readonly file: string
  private readonly pieces: Map<string, Piece>
  /** Scripts of which nothing was kept, with the sums of their texts. */
  private readonly compiled = new Map<string, { readonly sum: number; readonly script: Script }>()

  /** `folder` must be one that nobody else can write; `name` says of which command this is, and of which installation. */
  constructor(folder: string, name: string) {
    this.file = join(folder, `${name}-${this.tag.toString(16)}`)
    this.pieces = readPieces(this.file)
  }

  /** Compiles a script with what is kept of it. */
  compile(url: string, text: Buffer, compile: (code: Buffer | undefined) => Script): Script {
    const sum = zlib.crc32(text)
    const piece = this.pieces.get(url)
    const script = compile(piece?.sum === sum ? piece.code : undefined)
    if (piece?.sum !== sum || script.cachedDataRejected === true) this.compiled.set(url, { sum, script })
    return script
  }

  /** Writes down what is new when the process has started and waits for something, and when it exits. */
  writeOnceIdle(): void {
    process.once("exit", () => this.write())
    this.afterIdle()
  }

  private afterIdle(): void {
    const before = performance.eventLoopUtilization()
    const look = () =>
      performance.eventLoopUtilization(before).utilization < mostlyIdle ? this.write() : this.afterIdle()
    setTimeout(look, idleMs).unref()
  }

  /** Writes down what is new since. */
  write(): void {
    // With other flags V8 would not take it at the next start.
    if (this.compiled.size === 0 || v8.cachedDataVersionTag() !== this.tag) return
    // An installation that was replaced by a newer one has left its own.
    for (const url of this.pieces.keys()) if (!existsSync(new URL(url))) this.pieces.delete(url)
    for (const [url, { script, sum }] of this.compiled)
      this.pieces.set(url, { sum, code: script.createCachedData() })
    this.compiled.clear()
    const whole = `${this.file}.${process.pid}`
    try {
      writeFileSync(whole, written(this.pieces), { mode: 0o600, flag: "wx" })
      renameSync(whole, this.file)
    } catch {
      // The disk is full, or the folder has gone: the next start compiles again.
      rmSync(whole, { force: true })
    }
  }
}
