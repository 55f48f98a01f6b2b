/** What a person sees of a job on stderr: lines, and on a terminal one more below them, the bar or the question that is asked. */
import type { Body } from "../../protocol/Event.js"
import { columnsOf, cut } from "./columns.js"
import { safe } from "./text.js"

const width = 30

/** A runtime that counts beyond its total must not end this program. */
export const bar = ({ current, total, units, message }: Body<"progress">): string => {
  const numbers = `${current}${total === undefined ? "" : `/${total}`}${units === undefined ? "" : ` ${units}`}`
  const tail = message === undefined ? "" : ` ${message}`
  if (total === undefined || total === 0) return `${numbers}${tail}`
  const full = Math.min(width, Math.max(0, Math.round((current / total) * width)))
  return `${"█".repeat(full)}${"░".repeat(width - full)} ${Math.floor((100 * current) / total)}% ${numbers}${tail}`
}

export interface Screen {
  readonly print: (text: string) => void
  readonly progress: (progress: Body<"progress">) => void
  /** Without a terminal the `cost.budget.remaining` lines say it. */
  readonly gauge: (text: string) => void
  /** Asks for a line with this before it. It has the place of the bar, until there is one, or nobody is asked any more. */
  readonly ask: (mark: string) => void
  /** A line was written, and with it the terminal has gone on to the next one. */
  readonly answered: () => void
  /** Nobody is asked any more. */
  readonly unasked: () => void
  /** Takes the bar away: lines come without one from here on. */
  readonly done: () => void
}

/** What is written to, a terminal or not. */
interface Written {
  readonly write: (text: string) => unknown
  readonly isTTY?: boolean
  readonly columns?: number
}

export const make = (stream: Written = process.stderr): Screen => {
  const tty = stream.isTTY === true
  let shown = 0
  let parts = { gauge: "", progress: "" }
  let mark = ""
  /** What is on the line below the others. */
  let current = ""
  const clear = () => (tty && current !== "" ? "\r\u001b[K" : "")
  const below = () => {
    if (mark !== "") return mark
    const text = [parts.gauge, parts.progress].filter((part) => part !== "").join("  ")
    return cut(text, columnsOf(stream) - 1)
  }
  /** Writes what is above, then what is below it as that is now. */
  const draw = (above = "") => {
    const cleared = clear()
    current = tty ? below() : mark
    if (cleared + above + current !== "") stream.write(`${cleared}${above}${current}`)
  }
  const moved = (part: Partial<typeof parts>) => {
    if (!tty) return
    parts = { ...parts, ...part }
    if (mark === "") draw()
  }
  const leave = () => {
    mark = ""
    current = ""
    draw()
  }
  return {
    print: (text) => draw(`${text}\n`),
    progress: (progress) => {
      // The bar is one line, whatever the message.
      const text = safe(bar(progress)).replace(/\s/g, " ")
      if (!tty) {
        // Without a terminal a line per tenth is enough.
        const tenth = progress.total ? Math.floor((10 * progress.current) / progress.total) : -1
        if (tenth !== shown) stream.write(`${text}\n`)
        shown = tenth
      }
      moved({ progress: text })
    },
    gauge: (text) => moved({ gauge: safe(text) }),
    ask: (text) => {
      mark = text
      draw()
    },
    answered: leave,
    unasked: () => {
      if (mark === "") return
      stream.write("\n")
      leave()
    },
    done: () => {
      parts = { gauge: "", progress: "" }
      if (mark === "") draw()
    }
  }
}
