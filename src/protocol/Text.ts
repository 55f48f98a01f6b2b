/** Text: how long it is in UTF-8, whether it is well-formed, and the article of a name. */

/** UTF-8 bytes of a text, without encoding it. Half a surrogate pair counts as the U+FFFD it becomes. */
export const utf8Length = (text: string): number => {
  let bytes = text.length
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code < 0x80) continue
    if (code < 0x800) bytes += 1
    else if (isHigh(code) && isLow(text.charCodeAt(i + 1))) {
      bytes += 2
      i++
    } else bytes += 2
  }
  return bytes
}

/** `a Promise`, `an AsyncGenerator`, `a Uint8Array`: a name with the article that it is spoken with. */
export const withArticle = (name: string): string =>
  /^([aeio]|un(?!i)|x-)/i.test(name) ? `an ${name}` : `a ${name}`

/** Does it have no half of a surrogate pair? */
export const isWellFormed = (text: string): boolean => !half.test(text)

/** The text with U+FFFD for each half of a surrogate pair. */
export const wellFormed = (text: string): string => text.replace(halves, "\ufffd")

const half = /\p{Cs}/u
const halves = /\p{Cs}/gu

const isHigh = (code: number): boolean => code >= 0xd800 && code <= 0xdbff
const isLow = (code: number): boolean => code >= 0xdc00 && code <= 0xdfff
