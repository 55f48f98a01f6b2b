/** What a walk has found, kept in steps of pages: one outcome of a step may not be as long as the list of a large tree. */
import type * as FileSystem from "@effect/platform/FileSystem"
import type * as Path from "@effect/platform/Path"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { ArcpError } from "../../../protocol/Errors.js"
import { type JobService, Step } from "../../../services/jobs/Job.js"
import type { Options } from "./survey.js"
import { type Found, type SurveyRootError, type Walked, walk } from "./walk.js"

/** What is said of a walk in its own step. */
interface Listed extends Omit<Walked, "files"> {
  /** When it began, in epoch ms. */
  readonly startedAt: number
  /** Keys of the steps that have the files. */
  readonly pages: ReadonlyArray<string>
}

/** Characters of a page as JSON, whose UTF-8 is at most three times as long. */
const pageSize = 256 * 1024

/** Cuts what was found into pages. */
const pagesOf = function* (files: ReadonlyArray<Found>): Generator<ReadonlyArray<Found>> {
  let page: Array<Found> = []
  let size = 0
  for (const file of files) {
    size += JSON.stringify(file).length + 1
    if (size > pageSize && page.length > 0) {
      yield page
      page = []
      size = 0
    }
    page.push(file)
  }
  if (page.length > 0) yield page
}

/** Walks the tree, and keeps what it finds in steps of this attempt: one that a crash cuts off leaves no half of a list. */
export const listed = (
  options: Options,
  step: JobService["step"]
): Effect.Effect<Listed, SurveyRootError | ArcpError, FileSystem.FileSystem | Path.Path | Step> =>
  Effect.gen(function* () {
    const { attempt } = yield* Step
    const startedAt = yield* Clock.currentTimeMillis
    const { files, ...walked } = yield* walk(options)
    const pages: Array<string> = []
    for (const page of pagesOf(files)) {
      const key = `files ${attempt}.${pages.length + 1}`
      pages.push(key)
      yield* step(key, Effect.succeed(page))
    }
    return { ...walked, startedAt, pages }
  })

/** Returns the files of a walk. */
export const filesOf = (
  { pages }: Listed,
  step: JobService["step"]
): Effect.Effect<ReadonlyArray<Found>, ArcpError> =>
  Effect.map(
    Effect.forEach(pages, (key) =>
      step<ReadonlyArray<Found>>(key, Effect.dieMessage(`${key}: the walk has ended without them`))
    ),
    (all) => all.flat()
  )
