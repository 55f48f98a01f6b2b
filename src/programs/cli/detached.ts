/**
 * What `arcp submit --detach` leaves so that `arcp cancel` can act later: the session that
 * submitted a job may cancel it. A file per job, readable by its owner only, in the state folder of the user.
 */

import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as Config from "effect/Config"
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

export const save = (jobId: string, state: State) =>
  Effect.gen(function* () {
    yield* writePrivately(yield* file(jobId), yield* Schema.encode(State)(state))
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
