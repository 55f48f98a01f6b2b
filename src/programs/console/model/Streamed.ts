/**
 * A result that came in pieces, kept as it came. What it says is read when somebody asks for it: a text of many megabytes that is
 * read as JSON holds up the page for seconds, and nothing can be done meanwhile.
 */
import { parseJson } from "../../../protocol/Json.js"

/** Bytes that are kept of one. What is beyond them is counted only. */
const mostKept = 64_000_000

/** Characters that are read as JSON without having been asked to, which takes a tenth of a second at the most. */
export const mostUnasked = 1_000_000

/** The bytes of a result, and how many more there were. */
export class Streamed {
  constructor(
    /** The text, or the bytes of what is none. */
    readonly content: string | Uint8Array<ArrayBuffer>,
    /** Bytes of all of it. */
    readonly size: number,
    /** Bytes of it that are here: the first. */
    readonly kept: number
  ) {}

  get isWhole(): boolean {
    return this.kept === this.size
  }
}

/** Puts a result together. */
export class Pieces {
  readonly #parts: Array<Uint8Array> = []
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
    this.#parts.push(bytes)
    this.#kept = this.#size
  }

  /** Returns what has come, as text or as it is. */
  whole(isText: boolean): Streamed {
    return new Streamed(isText ? this.#text() : this.#bytes(), this.#size, this.#kept)
  }

  #text(): string {
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true })
    const texts = this.#parts.map((part) => decoder.decode(part, { stream: true }))
    return `${texts.join("")}${decoder.decode()}`
  }

  #bytes(): Uint8Array<ArrayBuffer> {
    const whole = new Uint8Array(this.#kept)
    let at = 0
    for (const part of this.#parts) {
      whole.set(part, at)
      at += part.length
    }
    return whole
  }
}

/** Tells whether a text begins and ends as an object or a list does in JSON. */
export const mayBeJson = (text: string): boolean =>
  /^\s{0,100}[[{]/.test(text.slice(0, 200)) && /[\]}]\s{0,100}$/.test(text.slice(-200))

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
