/** What is in a file: lines and marks, read piece by piece so that no file is ever held as a whole. */

export interface CodeMark {
  readonly kind: "TODO" | "FIXME"
  /** From 1. */
  readonly line: number
  /** The line's text around the mark, at most 120 characters. */
  readonly text: string
}

export interface Scan {
  readonly bytes: number
  /** 0 for a binary file. */
  readonly lines: number
  readonly binary: boolean
  readonly todo: number
  readonly fixme: number
  /** The first marks of the file. */
  readonly marks: ReadonlyArray<CodeMark>
}

/** A file is binary when it has a NUL this early, as git sees it. */
const binaryPrefix = 8_000
/** Characters of a line that are searched; generated files have lines of megabytes. */
const maxLine = 4_096
const maxText = 120
const maxMarksPerFile = 200

const mark = /\b(TODO|FIXME)\b/
const newline = 10

/** `text` without control characters, cut at a code point. */
const excerpt = (text: string): string => {
  const points = Array.from(text.replace(/[\u0000-\u001f\u007f]+/g, " ").trim())
  return points.length <= maxText ? points.join("") : `${points.slice(0, maxText - 1).join("")}…`
}

/** Takes a file's bytes in order. */
export class Scanner {
  private readonly decoder = new TextDecoder()
  private bytes = 0
  private newlines = 0
  private binary = false
  private endsLine = true
  private todo = 0
  private fixme = 0
  /** The text of the line that has begun, as far as it is searched. */
  private line = ""
  private readonly marks: Array<CodeMark> = []

  /** Returns whether more is wanted. */
  push(piece: Uint8Array): boolean {
    if (this.bytes < binaryPrefix && piece.subarray(0, binaryPrefix - this.bytes).includes(0)) {
      this.binary = true
      return false
    }
    this.bytes += piece.length
    if (piece.length > 0) this.endsLine = piece[piece.length - 1] === newline
    const text = this.decoder.decode(piece, { stream: true })
    let from = 0
    for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", from)) {
      this.extend(text, from, at)
      this.search()
      this.newlines++
      from = at + 1
    }
    this.extend(text, from, text.length)
    return true
  }

  /** `size` is the file's, which a binary file is not read to the end for. */
  finish(size: number): Scan {
    if (this.binary) return { bytes: size, lines: 0, binary: true, todo: 0, fixme: 0, marks: [] }
    this.search()
    return {
      bytes: this.bytes,
      lines: this.newlines + (this.endsLine ? 0 : 1),
      binary: false,
      todo: this.todo,
      fixme: this.fixme,
      marks: this.marks
    }
  }

  private extend(text: string, from: number, to: number): void {
    const room = maxLine - this.line.length
    if (room > 0 && to > from) this.line += text.slice(from, Math.min(to, from + room))
  }

  private search(): void {
    const found = mark.exec(this.line)
    if (found !== null) {
      const kind = found[1] === "TODO" ? "TODO" : "FIXME"
      if (kind === "TODO") this.todo++
      else this.fixme++
      if (this.marks.length < maxMarksPerFile)
        this.marks.push({ kind, line: this.newlines + 1, text: excerpt(this.line.slice(found.index)) })
    }
    this.line = ""
  }
}
