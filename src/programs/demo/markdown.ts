/**
 * The Markdown of reports as elements: headings, paragraphs and tables. Everything else is text, and text never becomes
 * markup: an agent's report may repeat whatever the files that it has read say.
 */

/** The text of inline Markdown, with its escapes undone. */
const textOf = (inline: string): string =>
  inline.replace(
    /\\([\\`*_{}[\]<>()#+\-.!|~&])|&(lt|gt|amp);/g,
    (_, escaped: string | undefined, name: string | undefined) =>
      escaped ?? (name === "lt" ? "<" : name === "gt" ? ">" : "&")
  )

const element = (tag: string, text = ""): HTMLElement => {
  const made = document.createElement(tag)
  made.textContent = text
  return made
}

/** The cells of a row, `undefined` when the line is none; a bar that is escaped is a part of its cell. */
const cellsOf = (line: string): ReadonlyArray<string> | undefined =>
  /^\|.*\|$/.test(line)
    ? [...line.slice(1).matchAll(/((?:\\.|[^|\\])*)\|/g)].map(([, cell = ""]) => cell.trim())
    : undefined

const isRule = (cells: ReadonlyArray<string> | undefined): cells is ReadonlyArray<string> =>
  cells?.every((cell) => /^:?-+:?$/.test(cell)) === true

/** A row of a table; columns of numbers are aligned by a class. */
const rowOf = (cells: ReadonlyArray<string>, tag: "td" | "th", rule: ReadonlyArray<string>): HTMLElement => {
  const row = element("tr")
  for (const [i, cell] of cells.entries()) {
    const made = element(tag, textOf(cell))
    if (rule[i]?.endsWith("-:")) made.className = "number"
    row.append(made)
  }
  return row
}

/** Returns the elements of a report. */
export const render = (markdown: string): ReadonlyArray<HTMLElement> => {
  const lines = markdown.split("\n")
  const elements: Array<HTMLElement> = []
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i] as string
    const heading = /^(#{1,3}) (.*)$/.exec(line)
    const head = cellsOf(line)
    const rule = cellsOf(lines[i + 1] ?? "")
    if (line.trim() === "") continue
    // The page has headings of its own above these.
    if (heading?.[1] !== undefined)
      elements.push(element(`h${heading[1].length + 2}`, textOf(heading[2] ?? "")))
    else if (head !== undefined && isRule(rule)) {
      const table = element("table")
      table.append(rowOf(head, "th", rule))
      i += 2
      for (let cells = cellsOf(lines[i] ?? ""); cells !== undefined; cells = cellsOf(lines[++i] ?? ""))
        table.append(rowOf(cells, "td", rule))
      i--
      elements.push(table)
    } else elements.push(element("p", textOf(line)))
  }
  return elements
}
