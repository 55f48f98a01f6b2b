/** Text: whether it is well-formed and stays so when it is cut, and the article of a name. */

/** `a Promise`, `an AsyncGenerator`, `a Uint8Array`: a name with the article that it is spoken with. */
export const withArticle = (name: string): string =>
  /^([aeio]|un(?!i)|x-)/i.test(name) ? `an ${name}` : `a ${name}`

/** Does it have no half of a surrogate pair? */
export const isWellFormed = (text: string): boolean => !half.test(text)

/** The text with U+FFFD for each half of a surrogate pair. */
export const wellFormed = (text: string): string => text.replace(halves, "\ufffd")

/** The beginning of a text, of at most `max` characters: a surrogate pair is not cut in two. */
export const cut = (text: string, max: number): string => {
  const last = text.charCodeAt(max - 1)
  return text.slice(0, text.length > max && last >= 0xd800 && last <= 0xdbff ? max - 1 : max)
}

const half = /\p{Cs}/u
const halves = /\p{Cs}/gu
