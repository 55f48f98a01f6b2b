/** What `arcp retry` does. */
import type { RetryFlags } from "../commands.js"
import { startAgain } from "./again.js"

export const run = (flags: RetryFlags, jobId: string) => startAgain(flags, jobId)
