/** What may reach a terminal, of text that others have made. */

/**
 * What steers a terminal or deceives its reader: control characters (C0 but tab and line feed, DEL, C1), what turns the
 * reading direction, the line and paragraph separators, and what is not seen at all (a byte order mark, spaces and letters of no
 * width, soft hyphens, tags, annotations, half a surrogate pair, a Braille pattern without dots). Joiners and variants are
 * seen in what they join or follow, as in emoji, and stay.
 */
const unsafe =
  /(?!\u200c|\u200d|[\ufe00-\ufe0f])\p{DI}|[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2800\ufff9-\ufffb\p{Cs}]/gu

/** Printable ASCII, as nearly everything is: found out in a fraction of the time that looking for what is unsafe takes. */
const plainText = /^[\t\n\x20-\x7e]*$/

/** Returns a text without what steers a terminal; it may have several lines. */
export const safe = (text: string): string => (plainText.test(text) ? text : text.replace(unsafe, "\ufffd"))

/** Returns a text, a name for example, as a part of one line. */
export const inLine = (text: string): string => safe(text.replace(/\r?\n|\t/g, " "))

/** Returns JSON text in which what steers a terminal is escaped: it says the same. */
export const safeJson = (text: string): string =>
  plainText.test(text)
    ? text
    : text.replace(unsafe, (found) =>
        found
          .split("")
          .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)
          .join("")
      )

/** Returns a value as one line of JSON that can be shown on a terminal. */
export const json = (value: unknown): string => safeJson(JSON.stringify(value))

/** Whether a stream gets colours: a terminal, of a person who did not say otherwise (https://no-color.org). */
export const coloured = (stream: { readonly isTTY?: boolean }): boolean =>
  stream.isTTY === true && !process.env["NO_COLOR"] && process.env["TERM"] !== "dumb"

/** Without the escape sequences that colour it. */
export const plain = (text: string): string => text.replace(/\u001b\[[0-9;]*m/g, "")
