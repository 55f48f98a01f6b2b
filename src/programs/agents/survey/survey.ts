/** Walks a tree and adds up what is in it. */
import * as FileSystem from "@effect/platform/FileSystem"
import type * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"
import type { PermissionDenied } from "../../../protocol/Errors.js"
import { languageOf } from "./languages.js"
import { type CodeMark, type Scan, Scanner } from "./scan.js"
import { type Found, type SurveyRootError, type Walked, walk } from "./walk.js"

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
}

export interface Options {
  readonly root: string
  readonly include?: ReadonlyArray<string> | undefined
  readonly maxFiles: number
}

const maxLargest = 10
const maxMarks = 200
/** Files read at the same time, and the least between two reports of progress. */
const group = 8
const pieceBytes = 64 * 1024

type Totals = { -readonly [K in keyof LanguageTotal]: LanguageTotal[K] }

/** Adds scanned files up; what it holds does not grow with their number. */
class Adder {
  private files = 0
  private lines = 0
  private bytes = 0
  private binaryFiles = 0
  private todo = 0
  private fixme = 0
  private readonly languages = new Map<string, Totals>()
  private largest: ReadonlyArray<Found> = []
  private readonly marks: Array<Located> = []

  add(path: string, scan: Scan): void {
    this.files++
    this.lines += scan.lines
    this.bytes += scan.bytes
    this.todo += scan.todo
    this.fixme += scan.fixme
    if (scan.binary) this.binaryFiles++
    const language = scan.binary ? "Binary" : languageOf(path.slice(path.lastIndexOf("/") + 1))
    const total = this.languages.get(language) ?? { language, files: 0, lines: 0, bytes: 0 }
    this.languages.set(language, total)
    total.files++
    total.lines += scan.lines
    total.bytes += scan.bytes
    if (this.largest.length < maxLargest || scan.bytes > (this.largest[maxLargest - 1] as Found).size)
      this.largest = [...this.largest, { path, size: scan.bytes }]
        .sort((a, b) => b.size - a.size)
        .slice(0, maxLargest)
    for (const mark of scan.marks) if (this.marks.length < maxMarks) this.marks.push({ ...mark, path })
  }

  total({ root, truncated, unreadable }: Walked, unreadFiles: number): Survey {
    return {
      root,
      files: this.files,
      lines: this.lines,
      bytes: this.bytes,
      binaryFiles: this.binaryFiles,
      languages: [...this.languages.values()].sort(
        (a, b) => b.lines - a.lines || b.bytes - a.bytes || (a.language < b.language ? -1 : 1)
      ),
      largest: this.largest,
      todo: this.todo,
      fixme: this.fixme,
      marks: this.marks,
      truncated,
      unreadable: unreadable + unreadFiles
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

/**
 * Surveys the tree below `root`. `onWalked` is told the number of files, `onProgress` how many of them
 * are done, at most about 200 times.
 */
export const survey = <E>(
  options: Options,
  on: {
    readonly walked: (files: number) => Effect.Effect<void, E>
    readonly progress: (current: number, total: number) => Effect.Effect<void, E>
  }
): Effect.Effect<Survey, SurveyRootError | PermissionDenied | E, FileSystem.FileSystem | Path.Path> =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const walked = yield* walk(options)
    const { files, root } = walked
    yield* on.walked(files.length)
    const adder = new Adder()
    const step = Math.max(group, Math.ceil(files.length / 200))
    let reported = 0
    let unread = 0
    for (let from = 0; from < files.length; from += group) {
      const part = files.slice(from, from + group)
      const scans = yield* Effect.forEach(
        part,
        ({ path, size }) => Effect.option(scanFile(fs, `${root}/${path}`, size)),
        { concurrency: group }
      )
      for (const [i, scan] of scans.entries()) {
        if (scan._tag === "Some") adder.add((part[i] as Found).path, scan.value)
        else unread++
      }
      const done = from + part.length
      if (done - reported >= step || done === files.length) {
        reported = done
        yield* on.progress(done, files.length)
      }
    }
    return adder.total(walked, unread)
  })
