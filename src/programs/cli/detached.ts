/**
 * What `arcp submit --detach` leaves so that `arcp cancel` can act later: the session that
 * submitted a job may cancel it. A file per job, readable by its owner only, in the state folder of the user.
 */

import { randomUUID } from "node:crypto"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

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
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const name = yield* file(jobId)
    const folder = path.dirname(name)
    yield* fs.makeDirectory(folder, { recursive: true, mode: 0o700 })
    // It may be from before, with other permissions.
    yield* fs.chmod(folder, 0o700)
    // A file of its own that takes the name: what has the name already lends it neither permissions nor where it leads.
    const fresh = `${name}.${randomUUID()}`
    yield* Effect.onError(
      Effect.zipRight(
        fs.writeFileString(fresh, yield* Schema.encode(State)(state), { flag: "wx", mode: 0o600 }),
        fs.rename(fresh, name)
      ),
      () => Effect.ignore(fs.remove(fresh))
    )
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
