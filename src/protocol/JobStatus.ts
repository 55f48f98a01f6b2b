/** Where a job is (§7): waiting to begin, running, or how it has ended. By itself, so that it can be named without a schema. */
export const jobStatuses = ["pending", "running", "success", "error", "cancelled", "timed_out"] as const
export type JobStatus = (typeof jobStatuses)[number]
