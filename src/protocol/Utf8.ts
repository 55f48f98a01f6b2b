/** How long texts are when they are written. */

/** Texts as UTF-8. */
export const encoder = new TextEncoder()

/** Node has what counts without writing anything; a browser has not. */
const { Buffer } = globalThis as { readonly Buffer?: { readonly byteLength: (text: string) => number } }

/** Bytes of a text in UTF-8. Half a surrogate pair counts as the U+FFFD that it becomes. */
export const byteLength = Buffer?.byteLength ?? ((text: string): number => encoder.encode(text).length)

/** Whether a text has more bytes in UTF-8; counts them only when its length cannot tell. */
export const exceeds = (text: string, bytes: number): boolean =>
  text.length > bytes || (text.length * 3 > bytes && byteLength(text) > bytes)
