/**
 * What the figures should be. A target is a text and a test of one metric's medians: `floor` and `subject` (numbers, or
 * `{ p50, p99, max }`), their `ratio`, `cpuUs` per unit, `all` metrics of both sides, the `facts` of the environment, and
 * the `store`.
 */

/** At least `n` times the floor; `stretch` is what would be better still. */
export const atLeast = (n, stretch) => ({
  text: `≥ ${n}${stretch === undefined ? "" : ` (${stretch})`}`,
  met: ({ ratio }) => ratio >= n
})

/** The same, for at most so many microseconds of processor time of the server. */
export const atLeastWithin = (n, cpuAtMost) => ({
  text: `≥ ${n}, CPU ≤ ${cpuAtMost} µs`,
  met: ({ cpuUs, ratio }) => ratio >= n && (cpuUs === undefined || cpuUs <= cpuAtMost)
})

/** At most `n` in the metric's own unit. */
export const atMost = (n, unit) => ({
  text: `≤ ${n} ${unit}`,
  met: ({ subject }) => subject <= n
})

/** At most `n` more than the floor, in the metric's own unit. */
export const atMostMore = (n, unit, stretch) => ({
  text: `≤ floor + ${n}${stretch === undefined ? "" : ` (${stretch})`} ${unit}`,
  met: ({ floor, subject }) => subject - floor <= n
})

/** A 99th percentile of at most `ms`. */
export const p99AtMost = (ms) => ({
  text: `p99 ≤ ${ms} ms`,
  met: ({ subject }) => subject.p99 <= ms
})

/** Milliseconds of `n` commits; in memory a commit costs no disk. */
const commits = (n, { facts, store }, percentile) =>
  store === "memory" ? 0 : n * facts.commitMs[store][percentile]

/** A median of at most `times` the floor's and, on disk, two commits as measured before the run. */
export const p50Within = (times) => ({
  text: `p50 ≤ ${times} × floor, on disk + 2 commits`,
  met: (context) => context.subject.p50 <= times * context.floor.p50 + commits(2, context, "p50")
})

/** A 99th percentile of at most the floor's pong in the same run and, on disk, `n` commits. */
export const p99WithinPong = (n) => ({
  text: `p99 ≤ floor's pong${n === 0 ? "" : `, on disk + ${n} commits`}`,
  met: (context) => context.subject.p99 <= context.all.floor.pong.p99 + commits(n, context, "p99")
})

/** How much dearer the last step may be than the first and still be called as dear. */
const flatness = 1.25

/** The last step costs as much as the first. */
export const flat = {
  text: `flat (≤ ${flatness} ×)`,
  met: ({ subject }) => subject <= flatness
}
