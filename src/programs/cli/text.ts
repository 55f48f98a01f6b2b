/** Control characters of an agent or a runtime must not steer the reader's terminal. */
export const safe = (text: string): string =>
  text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, "\ufffd")

/** Whether a stream gets colours: a terminal, of a person who did not say otherwise (https://no-color.org). */
export const coloured = (stream: { readonly isTTY?: boolean }): boolean =>
  stream.isTTY === true && !process.env["NO_COLOR"] && process.env["TERM"] !== "dumb"

/** Without the escape sequences that colour it. */
export const plain = (text: string): string => text.replace(/\u001b\[[0-9;]*m/g, "")
