/**
 * The moment in a turn of the event loop at which every fiber that could go on has done so. Whoever gathers what others say
 * waits for it, and has all of it together; it comes before sockets and timers are looked at.
 */
declare const process: { readonly nextTick?: ((callback: () => void) => void) | undefined } | undefined

/** Calls back in this turn of the event loop, once all microtasks have run, and those that they have added. */
export const whenQuiet: (callback: () => void) => void =
  typeof process === "object" && typeof process.nextTick === "function" ? process.nextTick : queueMicrotask
