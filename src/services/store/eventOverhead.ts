/** By itself, so that a thread without Effect can import it. */

/**
 * What an event takes beyond its payload, roughly, in bytes: for limits of what is retained. Payloads are counted there by their
 * UTF-16 units, which is what stores have summed up and written down: one to three bytes a unit on disk, and one or two in
 * memory. Limits of what one frame, event or result may have are in bytes of UTF-8.
 */
export const eventOverhead = 64
