/** JSON that a person gives a job, as a runtime gets it. */

/** Returns what a text says; throws of one that is no JSON, or says a number that JSON cannot: `1e400` would be sent as null. */
export const parseInput = (text: string): unknown =>
  JSON.parse(text, (_, value: unknown) => {
    if (value === Infinity || value === -Infinity) throw new RangeError("a number is too large")
    return value
  })
