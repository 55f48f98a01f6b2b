/** What `arcp fork` does. */
import * as Option from "effect/Option"
import type { ForkFlags } from "../commands.js"
import { UsageError } from "../UsageError.js"
import { startAgain } from "./again.js"

export const run = (flags: ForkFlags, jobId: string) =>
  Option.match(flags.at, {
    onNone: () =>
      new UsageError({
        message: `--at STEP is missing, the step to go on with; arcp retry ${jobId} begins the job anew`
      }),
    onSome: (at) => startAgain(flags, jobId, at)
  })
