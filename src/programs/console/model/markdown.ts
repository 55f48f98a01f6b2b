/**
 * Markdown as blocks and pieces of text. It never becomes markup: what is no Markdown that is known here stays text, links
 * lead to http(s) only, and an image is a link to it, so that nothing is fetched for having been read.
 */
import { safeUrl } from "./text.js"

export type Inline =
  | { readonly type: "text" | "code" | "strong" | "em"; readonly text: string }
  | { readonly type: "link"; readonly text: string; readonly href: string }

export type Block =
  | { readonly type: "heading"; readonly level: number; readonly content: ReadonlyArray<Inline> }
  | { readonly type: "paragraph" | "quote"; readonly content: ReadonlyArray<Inline> }
  | { readonly type: "code"; readonly text: string }
  | {
      readonly type: "list"
      /** The number of the first item; `undefined`: they have none. */
      readonly start: number | undefined
      /** How far it is within other lists. */
      readonly depth: number
      readonly items: ReadonlyArray<ReadonlyArray<Inline>>
    }
  | {
      readonly type: "table"
      readonly head: ReadonlyArray<ReadonlyArray<Inline>>
      readonly rows: ReadonlyArray<ReadonlyArray<ReadonlyArray<Inline>>>
      /** Columns of numbers. */
      readonly right: ReadonlyArray<boolean>
    }
  | { readonly type: "rule" }

/**
 * Pieces, cells, items and blocks that are made of a text. Each becomes an element, and a page that makes many thousands at
 * once does nothing else meanwhile; what comes after is not Markdown that anybody reads.
 */
export const mostPieces = 4_000

const unescaped = (text: string): string =>
  text.replace(
    /\\([\\`*_{}[\]<>()#+\-.!|~&])|&(lt|gt|amp|quot);/g,
    (_, escaped: string | undefined, name: string | undefined) =>
      escaped ?? (name === "lt" ? "<" : name === "gt" ? ">" : name === "quot" ? '"' : "&")
  )

// Bounded, without a choice of how to match the same characters, and none goes over where another could begin: a text of
// beginnings alone is looked at once, and the time is in proportion to it.
const piece =
  /`([^`\n]{1,2000})`|\*\*([^*\n]{1,1000})\*\*|(?<![\w*])\*([^*\s][^*\n]{0,1000})\*(?![\w*])|!?\[([^[\]\n]{0,500})\]\(([^)[\s]{1,2000})\)|\bhttps?:\/\/[^\s<>"')\]]{1,2000}|\\./g

/** Returns the pieces of a line, at most about `most`. */
export const inline = (text: string, most = mostPieces): ReadonlyArray<Inline> => {
  const pieces: Array<Inline> = []
  let from = 0
  let held = ""
  const flush = () => {
    if (held !== "") pieces.push({ type: "text", text: unescaped(held) })
    held = ""
  }
  for (const match of text.matchAll(piece)) {
    if (pieces.length >= most) break
    held += text.slice(from, match.index)
    from = match.index + match[0].length
    const [whole, code, strong, em, label, target] = match
    const href =
      target !== undefined ? safeUrl(target) : whole.startsWith("http") ? safeUrl(whole) : undefined
    const made: Inline | undefined =
      code !== undefined
        ? { type: "code", text: code }
        : strong !== undefined
          ? { type: "strong", text: unescaped(strong) }
          : em !== undefined
            ? { type: "em", text: unescaped(em) }
            : href !== undefined
              ? { type: "link", text: unescaped(label === undefined || label === "" ? whole : label), href }
              : undefined
    if (made === undefined) held += whole
    else {
      flush()
      pieces.push(made)
    }
  }
  held += text.slice(from)
  flush()
  return pieces
}

/** The cells of a row, `undefined` when the line is none. */
const cellsOf = (line: string): ReadonlyArray<string> | undefined => {
  const trimmed = line.trim()
  if (trimmed.length < 2 || !trimmed.startsWith("|") || !trimmed.endsWith("|")) return undefined
  const cells: Array<string> = []
  for (let at = 1, from = 1; at < trimmed.length; at++) {
    if (trimmed[at] === "\\") at++
    else if (trimmed[at] === "|") {
      cells.push(trimmed.slice(from, at).trim())
      from = at + 1
    }
  }
  return cells
}
const isRule = (cells: ReadonlyArray<string> | undefined): cells is ReadonlyArray<string> =>
  cells !== undefined && cells.length > 0 && cells.every((cell) => /^:?-+:?$/.test(cell))

const item = /^(\s{0,8})(?:[-*+]|(\d{1,9})[.)])\s+(\S.*)$/

/** A line of dashes, stars or underlines alone. A line that is longer than anybody draws one is a text: matching takes its square. */
const mostRule = 200
const isLine = (text: string): boolean => text.length <= mostRule && /^ {0,3}([-*_])( *\1){2,} *$/.test(text)

/** The item that a line is: how far it is within others, its number, and its text. */
const itemIn = (line: string) => {
  const [, indent = "", number, text = ""] = item.exec(line) ?? []
  return { depth: indent.length >> 1, number: number === undefined ? undefined : Number(number), text }
}
const starts = (line: string) =>
  line.trim() === "" || /^(#{1,6} |```|> ?|\s{0,8}(?:[-*+]|\d{1,9}[.)])\s+\S|\|)/.test(line)

/** What a text is as Markdown. */
export interface Markdown {
  readonly blocks: ReadonlyArray<Block>
  /** Whether all of the text is in them. */
  readonly isWhole: boolean
}

/** Reads lines from the top; each of these takes its own and says where the next begins. */
class Reader {
  readonly blocks: Array<Block> = []
  #at = 0
  /** What may still be made. */
  #left = mostPieces

  constructor(private readonly lines: ReadonlyArray<string>) {}

  #line(ahead = 0): string {
    return this.lines[this.#at + ahead] ?? ""
  }

  #while(test: (line: string) => boolean, most = Number.POSITIVE_INFINITY): Array<string> {
    const taken: Array<string> = []
    while (taken.length < most && this.#at < this.lines.length && test(this.#line())) {
      taken.push(this.#line())
      this.#at++
    }
    return taken
  }

  /** Makes something of each until no more may be made. */
  #each<A, B>(all: ReadonlyArray<A>, make: (one: A) => B): ReadonlyArray<B> {
    const made: Array<B> = []
    for (const one of all) {
      if (this.#left <= 0) break
      this.#left--
      made.push(make(one))
    }
    return made
  }

  #inline = (text: string): ReadonlyArray<Inline> => {
    const pieces = inline(text, this.#left)
    this.#left -= pieces.length
    return pieces
  }

  read(): Markdown {
    while (this.#at < this.lines.length && this.#left > 0) {
      this.#left--
      this.#block()
    }
    return { blocks: this.blocks, isWhole: this.#left > 0 }
  }

  #block(): void {
    const text = this.#line()
    const heading = /^(#{1,6}) (.*)$/.exec(text)
    if (text.trim() === "") this.#at++
    else if (text.startsWith("```")) this.#code()
    else if (heading !== null) {
      this.#at++
      this.blocks.push({
        type: "heading",
        level: heading[1]?.length ?? 1,
        content: this.#inline(heading[2] ?? "")
      })
    } else if (isLine(text)) {
      this.#at++
      this.blocks.push({ type: "rule" })
    } else if (isRule(cellsOf(this.#line(1))) && cellsOf(text) !== undefined) this.#table()
    else if (item.test(text)) this.#list()
    else if (text.startsWith(">")) {
      const quoted = this.#while((line) => line.startsWith(">")).map((line) => line.replace(/^> ?/, ""))
      this.blocks.push({ type: "quote", content: this.#inline(quoted.join("\n")) })
    } else {
      this.#at++
      const more = this.#while((line) => !starts(line))
      this.blocks.push({ type: "paragraph", content: this.#inline([text, ...more].join("\n")) })
    }
  }

  #code(): void {
    this.#at++
    const code = this.#while((line) => !line.startsWith("```"))
    this.#at++
    this.blocks.push({ type: "code", text: code.join("\n") })
  }

  /** Items of one depth, with numbers or without: those within one of them, and those after it, are lists of their own. */
  #list(): void {
    const first = itemIn(this.#line())
    const isLike = (line: string) => {
      if (!item.test(line) || isLine(line)) return false
      const { depth, number } = itemIn(line)
      return depth === first.depth && (number === undefined) === (first.number === undefined)
    }
    const items = this.#while(isLike, this.#left)
    this.blocks.push({
      type: "list",
      start: first.number,
      depth: first.depth,
      items: this.#each(items, (line) => this.#inline(itemIn(line).text))
    })
  }

  #table(): void {
    const head = cellsOf(this.#line()) ?? []
    const rule = cellsOf(this.#line(1)) ?? []
    this.#at += 2
    const rows = this.#while((line) => cellsOf(line) !== undefined, this.#left).map(
      (line) => cellsOf(line) ?? []
    )
    this.blocks.push({
      type: "table",
      head: this.#each(head, this.#inline),
      rows: this.#each(rows, (cells) => this.#each(cells, this.#inline)),
      right: rule.slice(0, mostPieces).map((cell) => cell.endsWith("-:"))
    })
  }
}

/** Characters of a text beyond which it is not read as Markdown. */
const mostMarkdown = 400_000

/** Reads Markdown, as much of it as is shown at once. */
export const parse = (text: string): Markdown => new Reader(text.split(/\r?\n/)).read()

/** Tells whether a text looks as if it were Markdown. */
export const looksLike = (text: string): boolean =>
  text.length <= mostMarkdown && /^#{1,6} \S|^\s{0,3}[-*+] \S|^```|^\|.*\|\s*$|\*\*\S|\]\(https?:/m.test(text)
