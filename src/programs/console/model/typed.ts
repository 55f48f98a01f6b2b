/** What is typed in a box, and the value that it says: what is sent is what is seen, or nothing. */
import { line } from "./text.js"

/**
 * What is in a box and is not what the box is for: as it was typed, and what is wrong with it. It is a value like any other, in the
 * place of the one that it was to be.
 */
export class Unreadable {
  constructor(
    readonly text: string,
    readonly problem: string,
    /** The same, as it is said after the place of the box. */
    readonly says = "is no JSON"
  ) {}
}

/** Returns the digits of a number and where its point is: the same for each way of writing it, with either sign. */
const digitsOf = (text: string): string => {
  const [, whole = "", part = "", exponent = "0"] = /^-?(\d*)\.?(\d*)(?:e([+-]?\d+))?$/i.exec(text) ?? []
  const digits = `${whole}${part}`.replace(/^0+/, "")
  const short = digits.replace(/0+$/, "")
  return short === "" ? "0" : `${short}e${Number(exponent) - part.length + digits.length - short.length}`
}

/** Returns what is wrong with a number that would not be sent as it is written, since it is rounded to 53 bits. */
const inexact = (text: string): string | undefined => {
  const sent = Number(text)
  if (!Number.isFinite(sent)) return "is too large"
  return digitsOf(text) === digitsOf(String(sent)) ? undefined : `would be sent as ${sent}`
}

/** The texts and the numbers of JSON. */
const scalar = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g

/** Returns the value that a text in a box for JSON says; `undefined`: none. */
export const valueIn = (text: string): unknown => {
  if (text.trim() === "") return undefined
  try {
    const value: unknown = JSON.parse(text)
    for (const [found] of text.matchAll(scalar)) {
      const problem = found.startsWith('"') ? undefined : inexact(found)
      if (problem !== undefined)
        return new Unreadable(text, `${line(found, 40)} ${problem}`, `has a number that ${problem}`)
    }
    return value
  } catch (error) {
    return new Unreadable(text, error instanceof Error ? line(error.message, 120) : "no JSON")
  }
}

/** Returns the number that a text in a box for numbers says; a browser lets nothing else be there than one, or its beginning. */
export const numberIn = (text: string): number | Unreadable => {
  const problem = inexact(text)
  return problem === undefined ? Number(text) : new Unreadable(text, problem, problem)
}
