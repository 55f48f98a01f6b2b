/** What a durable job knows of a key that its handler has used. */

/** What a handler gives keys to. */
export type KeyedKind = "step" | "sleep" | "delegate" | "input"

/** What is known of an entry without its value. */
export interface About {
  readonly attempt: number
  /** The step in which it was, by its key. */
  readonly within?: string | undefined
  /** Of an outcome of a step that has done what it does, also when what it came to could not be kept: it has a compensation. */
  readonly compensate?: boolean | undefined
  /** Of an outcome that is a failure. */
  readonly failed?: boolean | undefined
  /** Of a sleep, and of an input that expires: epoch ms. */
  readonly until?: number | undefined
  /** Of a sleep: when it began, epoch ms. Those that earlier versions began have none. */
  readonly since?: number | undefined
  /** Of an input. */
  readonly inputId?: string | undefined
  /** Of an input: it is asked no more, and has no outcome. */
  readonly withdrawn?: boolean | undefined
  /** Of an input: its answer was checked by the handler's own schema. */
  readonly checked?: boolean | undefined
  /** Of a delegation. */
  readonly delegateId?: string | undefined
  readonly jobId?: string | undefined
  readonly agent?: string | undefined
  /** Also of what an input is about. */
  readonly digest?: string | undefined
}

/** A key that a handler has used. */
export interface Known {
  readonly kind: KeyedKind
  readonly key: string
  ordinal: number
  about: About
  /** Bytes of its outcome; `undefined` without one. */
  size: number | undefined
  /** It was there when this run of the handler began. */
  readonly isOld: boolean
  /** Its outcome was written by this run, and may not be stored yet. */
  isFresh: boolean
  asked: boolean
  running: boolean
}

/** Tells whether what is known is a question that has been asked, and is neither answered nor withdrawn. */
export const isOpenInput = ({ about, size }: Known): boolean =>
  about.inputId !== undefined && size === undefined && about.withdrawn !== true
