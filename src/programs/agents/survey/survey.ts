/**
 * Walks a tree and adds up what is in it, in steps: what was found, and what each part of it comes to, is in the job's log,
 * so that a survey whose process ends goes on where it was, over the same files.
 */
import * as FileSystem from "@effect/platform/FileSystem"
import type * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"
import type { ArcpError } from "../../../protocol/Errors.js"
import type { JobService } from "../../../services/jobs/Job.js"
import { languageOf } from "./languages.js"
import { filesOf, listed } from "./listing.js"
import { type CodeMark, type Scan, Scanner } from "./scan.js"
import { type Found, SurveyRootError, type WalkOptions } from "./walk.js"

export interface LanguageTotal {
  readonly language: string
  readonly files: number
  readonly lines: number
  readonly bytes: number
}

export interface Located extends CodeMark {
  readonly path: string
}

export interface Survey {
  /** The root, absolute. */
  readonly root: string
  readonly files: number
  readonly lines: number
  readonly bytes: number
  readonly binaryFiles: number
  /** Most lines first. */
  readonly languages: ReadonlyArray<LanguageTotal>
  /** By bytes. */
  readonly largest: ReadonlyArray<Found>
  readonly todo: number
  readonly fixme: number
  /** In order of path and line; the first ones when there are many. */
  readonly marks: ReadonlyArray<Located>
  readonly truncated: boolean
  readonly unreadable: number
  /** When it began, in epoch ms. */
  readonly startedAt: number
}

const maxLargest = 10
const maxMarks = 200
/** Files read at the same time, and the least between two reports of progress. */
const group = 8
const pieceBytes = 64 * 1024

/** At most so many parts, each of which is a step. */
const maxParts = 25

type Totals = { -readonly [K in keyof LanguageTotal]: LanguageTotal[K] }

/** What files come to. */
type Sum = Omit<Survey, "root" | "truncated" | "unreadable" | "startedAt"> & {
  /** Files that could not be read. */
  readonly unread: number
}

/** Adds files up, and sums of files that come in the same order; what it holds does not grow with their number. */
class Adder {
  private readonly sum = { files: 0, lines: 0, bytes: 0, binaryFiles: 0, todo: 0, fixme: 0, unread: 0 }
  private readonly languages = new Map<string, Totals>()
  private largest: ReadonlyArray<Found> = []
  private readonly marks: Array<Located> = []

  /** Counts a file that could not be read. */
  miss(): void {
    this.sum.unread++
  }

  addFile(path: string, scan: Scan): void {
    const { binary, bytes, fixme, lines, todo } = scan
    const language = binary ? "Binary" : languageOf(path.slice(path.lastIndexOf("/") + 1))
    this.add({
      files: 1,
      lines,
      bytes,
      binaryFiles: binary ? 1 : 0,
      languages: [{ language, files: 1, lines, bytes }],
      largest: [{ path, size: bytes }],
      todo,
      fixme,
      marks: scan.marks.map((mark) => ({ ...mark, path })),
      unread: 0
    })
  }

  add(sum: Sum): void {
    for (const key of ["files", "lines", "bytes", "binaryFiles", "todo", "fixme", "unread"] as const)
      this.sum[key] += sum[key]
    for (const { bytes, files, language, lines } of sum.languages) {
      const total = this.languages.get(language) ?? { language, files: 0, lines: 0, bytes: 0 }
      this.languages.set(language, total)
      total.files += files
      total.lines += lines
      total.bytes += bytes
    }
    const least = this.largest[maxLargest - 1]?.size ?? -1
    if (sum.largest.some(({ size }) => size > least))
      this.largest = [...this.largest, ...sum.largest].sort((a, b) => b.size - a.size).slice(0, maxLargest)
    for (const mark of sum.marks) if (this.marks.length < maxMarks) this.marks.push(mark)
  }

  total(): Sum {
    return {
      ...this.sum,
      languages: [...this.languages.values()].sort(
        (a, b) => b.lines - a.lines || b.bytes - a.bytes || (a.language < b.language ? -1 : 1)
      ),
      largest: this.largest,
      marks: this.marks
    }
  }
}

const scanFile = (fs: FileSystem.FileSystem, path: string, size: number) =>
  Effect.scoped(
    Effect.gen(function* () {
      const file = yield* fs.open(path, { flag: "r" })
      const scanner = new Scanner()
      const buffer = new Uint8Array(Math.min(pieceBytes, size + 1))
      // A read that does not fill the buffer was the last one.
      for (let more = true; more; ) {
        const read = Number(yield* file.read(buffer))
        more = scanner.push(buffer.subarray(0, read)) && read === buffer.length
      }
      return scanner.finish(size)
    })
  )

/** What a survey does with its job. */
interface On<E> {
  readonly step: JobService["step"]
  /** Is told the number of files. */
  readonly walked: (files: number) => Effect.Effect<void, E>
  /** Is told how many of them are done, at most about 200 times. */
  readonly progress: (current: number, total: number) => Effect.Effect<void, E>
}

/** Adds up the files `from` to `to`, a group at a time. */
const scanPart = <E>(
  fs: FileSystem.FileSystem,
  root: string,
  files: ReadonlyArray<Found>,
  [from, to]: readonly [number, number],
  progress: On<E>["progress"]
): Effect.Effect<Sum, E> =>
  Effect.gen(function* () {
    const adder = new Adder()
    const apart = Math.max(group, Math.ceil(files.length / 200))
    let reported = from
    for (let at = from; at < to; at += group) {
      const part = files.slice(at, Math.min(at + group, to))
      const scans = yield* Effect.forEach(
        part,
        ({ path, size }) => Effect.option(scanFile(fs, `${root}/${path}`, size)),
        { concurrency: group }
      )
      for (const [i, { path }] of part.entries()) {
        const scan = scans[i]
        if (scan?._tag === "Some") adder.addFile(path, scan.value)
        else adder.miss()
      }
      const done = at + part.length
      if (done - reported >= apart || done === to) {
        reported = done
        yield* progress(done, files.length)
      }
    }
    return adder.total()
  })

/** Surveys the tree below `root`, in steps of the job. */
export const survey = <E extends ArcpError>(
  options: WalkOptions,
  on: On<E>
): Effect.Effect<Survey, SurveyRootError | ArcpError, FileSystem.FileSystem | Path.Path> =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const walked = yield* on.step("walk", listed(options, on.step), { error: SurveyRootError })
    const { root, startedAt, truncated, unreadable } = walked
    const files = yield* filesOf(walked, on.step)
    yield* on.walked(files.length)
    const adder = new Adder()
    // Whole groups, so that what is read together does not depend on where a part ends.
    const length = Math.max(1, Math.ceil(files.length / group / maxParts)) * group
    for (let from = 0, part = 1; from < files.length; from += length, part++) {
      const to = Math.min(from + length, files.length)
      adder.add(yield* on.step(`scan ${part}`, scanPart(fs, root, files, [from, to], on.progress)))
    }
    const { unread, ...sum } = adder.total()
    return { root, ...sum, truncated, unreadable: unreadable + unread, startedAt }
  })
