// Agents as a user writes them, that notice whether the server runs on the same copies of this package and of Effect as the
// module of agents imports. Served from the tree by the tests, and from an installed tarball by pack-and-import.sh.
import * as FileSystem from "@effect/platform/FileSystem"
import { Context, Effect } from "effect"
import { Agent, Errors, Job, Lease } from "effect-arcp"

const prototype = (value) => Object.getPrototypeOf(value)

const copies = Agent.make("copies", { version: "1.0.0" })

export const agents = [
  Agent.handle(copies, () =>
    Effect.gen(function* () {
      const { jobId, log } = yield* Job.Job
      yield* log("info", "asked for the services of this package")
      const files = yield* FileSystem.FileSystem
      const refused = yield* Effect.flip(files.readFileString("/etc/hostname"))
      const lease = yield* Lease.Lease
      const error = yield* Effect.flip(lease.authorize("fs.read", "/etc/hostname"))
      return {
        job: jobId.startsWith("job_"),
        files: refused._tag,
        errors: error instanceof Errors.PermissionDenied,
        effect: prototype(yield* Effect.context()) === prototype(Context.empty())
      }
    })
  ),
  Agent.fromPromise("thrower", { version: "1.0.0" }, async () => {
    throw new Error("thrown by an agent")
  })
]
