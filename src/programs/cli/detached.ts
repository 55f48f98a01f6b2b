/**
 * What `arcp submit --detach` leaves so that `arcp cancel` can act later: the session that
 * submitted a job may cancel it. A file per job, readable by its owner only, in the state folder of the user.
 */

import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as Clock from "effect/Clock"
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { writePrivately } from "./privateFile.js"

const State = Schema.parseJson(
  Schema.Struct({
    url: Schema.String,
    sessionId: Schema.String,
    resumeToken: Schema.String,
    lastEventSeq: Schema.Number
  })
)
type State = typeof State.Type

const home = Config.string("HOME").pipe(
  Config.orElse(() => Config.string("USERPROFILE")),
  Config.withDefault(".")
)

const file = (jobId: string) =>
  Effect.gen(function* () {
    const path = yield* Path.Path
    const base = yield* Config.string("XDG_STATE_HOME").pipe(
      Config.orElse(() => Config.map(home, (home) => path.join(home, ".local", "state")))
    )
    return path.join(base, "arcp", "jobs", `${jobId.replace(/[^\w]/g, "_")}.json`)
  }).pipe(Effect.orDie)

/** How long it is kept: no runtime keeps a session longer for whom nobody comes. */
const kept = Duration.days(30)

/** Removes what nobody has come back for. */
const removeOld = (folder: string) =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const before = (yield* Clock.currentTimeMillis) - Duration.toMillis(kept)
    for (const name of yield* fs.readDirectory(folder)) {
      const old = path.join(folder, name)
      const { mtime } = yield* fs.stat(old)
      if (Option.exists(mtime, (at) => at.getTime() < before)) yield* fs.remove(old)
    }
  }).pipe(Effect.ignore)

export const save = (jobId: string, state: State) =>
  Effect.gen(function* () {
    const path = yield* Path.Path
    const name = yield* file(jobId)
    yield* writePrivately(name, yield* Schema.encode(State)(state))
    yield* removeOld(path.dirname(name))
  })

export const load = (jobId: string) =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    return yield* Schema.decode(State)(yield* fs.readFileString(yield* file(jobId)))
  }).pipe(Effect.option, Effect.map(Option.getOrUndefined))

export const forget = (jobId: string) =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    yield* fs.remove(yield* file(jobId))
  }).pipe(Effect.ignore)
