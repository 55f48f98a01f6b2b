/**
 * A result that came in pieces, kept as it came. What it says is read when somebody asks for it: a text of many megabytes that is
 * read as JSON holds up the page for seconds, and nothing can be done meanwhile.
 */
import { parseJson } from "../../../protocol/Json.js"

/** Bytes that are kept of one. What is beyond them is counted only. */
const mostKept = 64_000_000

/** Characters that are read as JSON without having been asked to, which takes a tenth of a second at the most. */
export const mostUnasked = 1_000_000

/** Bytes of a text that is put together unasked; of a longer one that is its beginning. Each character takes four at the most. */
const mostTogether = 4 * mostUnasked

/** Bytes at the end of a text that are looked at. */
const ending = 400

/** A text as far as a view needs it: little of one of many megabytes is shown, and to put all of it together takes a second. */
export interface Reading {
  /** All of it, or `mostUnasked` characters and more. */
  readonly beginning: string
  readonly isAll: boolean
  /** Whether it begins and ends as an object or a list does in JSON. */
  readonly mayBeJson: boolean
  readonly all: () => string
}

/** Returns a text that is there already as a view reads it. */
export const readingOf = (text: string): Reading => ({
  beginning: text,
  isAll: true,
  mayBeJson: mayBeJson(text),
  all: () => text
})

type Parts = ReadonlyArray<Uint8Array<ArrayBuffer>>

const decoded = (parts: Parts): string => {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true })
  return `${parts.map((part) => decoder.decode(part, { stream: true })).join("")}${decoder.decode()}`
}

/** The pieces of a result, and how many more bytes there were. */
export class Streamed {
  #reading: Reading | undefined

  constructor(
    readonly parts: Parts,
    readonly isText: boolean,
    /** Bytes of all of it. */
    readonly size: number,
    /** Bytes of it that are here: the first. */
    readonly kept: number
  ) {}

  get isWhole(): boolean {
    return this.kept === this.size
  }

  /** The text, or the bytes of what is none, put together. */
  get content(): string | Uint8Array<ArrayBuffer> {
    if (this.isText) return decoded(this.parts)
    const whole = new Uint8Array(this.kept)
    let at = 0
    for (const part of this.parts) {
      whole.set(part, at)
      at += part.length
    }
    return whole
  }

  /** The text as a view reads it; none of what is no text. */
  get reading(): Reading | undefined {
    if (this.isText) this.#reading ??= this.#read()
    return this.#reading
  }

  #read(): Reading {
    if (this.kept <= mostTogether) return readingOf(decoded(this.parts))
    let bytes = 0
    const beyond = this.parts.findIndex((part) => {
      bytes += part.length
      return bytes >= mostTogether
    })
    const beginning = decoded(this.parts.slice(0, beyond + 1))
    // The last of them may be a line feed.
    const end = decoded(this.parts.slice(-8).map((part) => part.subarray(-ending)))
    return {
      beginning,
      isAll: false,
      mayBeJson: mayBeJson(beginning, end),
      all: () => decoded(this.parts)
    }
  }
}

/** Puts a result together. */
export class Pieces {
  readonly #parts: Array<Uint8Array<ArrayBuffer>> = []
  #kept = 0
  #size = 0

  /** `mayGrow` is asked whether there is room for so many more bytes beside what else is held. */
  constructor(private readonly mayGrow: (bytes: number) => boolean = () => true) {}

  /** Bytes that are kept. */
  get kept(): number {
    return this.#kept
  }

  add(bytes: Uint8Array): void {
    // Nothing is kept after what was not.
    const isNext = this.#kept === this.#size
    this.#size += bytes.length
    if (!isNext || this.#size > mostKept || !this.mayGrow(bytes.length)) return
    // What comes over a socket is in no memory that threads share.
    this.#parts.push(bytes as Uint8Array<ArrayBuffer>)
    this.#kept = this.#size
  }

  /** Returns what has come, as text or as it is. */
  whole(isText: boolean): Streamed {
    return new Streamed(this.#parts, isText, this.#size, this.#kept)
  }
}

/** Tells whether a text begins and ends as an object or a list does in JSON. */
export const mayBeJson = (beginning: string, end = beginning): boolean =>
  /^\s{0,100}[[{]/.test(beginning.slice(0, 200)) && /[\]}]\s{0,100}$/.test(end.slice(-200))

/** Returns the object or list that a text is in JSON, `undefined` when it is none. */
export const jsonIn = (text: string): object | undefined => {
  if (!mayBeJson(text)) return undefined
  try {
    const value = parseJson(text)
    return typeof value === "object" && value !== null ? value : undefined
  } catch {
    return undefined
  }
}

/** The same of a text that is short enough to be read unasked. */
export const jsonUnasked = (text: string): object | undefined =>
  text.length > mostUnasked ? undefined : jsonIn(text)
