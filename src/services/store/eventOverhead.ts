/** By itself, so that a thread without Effect can import it. */

/** What an event takes beyond its payload, roughly, in bytes: for retention limits. */
export const eventOverhead = 64
