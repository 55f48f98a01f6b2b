/** The texts that events are made of, without a detour through objects. */

/** RFC 3339 in UTC. */
export const timestamp = (epochMs: number): string => new Date(epochMs).toISOString()

/** `timestamp` that keeps the text of the last millisecond, for whoever writes many in a row. */
export const timestamps = (): ((epochMs: number) => string) => {
  let lastAt = Number.NaN
  let lastText = ""
  return (epochMs) => {
    if (epochMs !== lastAt) {
      lastAt = epochMs
      lastText = timestamp(epochMs)
    }
    return lastText
  }
}

/** `job.event` payload text around a body that is JSON text already. */
export const eventPayload = (kind: string, at: string, body: string): string =>
  `{"kind":${JSON.stringify(kind)},"ts":"${at}","body":${body}}`
