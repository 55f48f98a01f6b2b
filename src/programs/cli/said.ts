/** What the program says of itself, before anything of Effect is loaded. */
import { version } from "../version.js"
import { isGroup } from "./Command.js"
import { entries } from "./commands.js"
import { completions } from "./completions.js"
import { commandHelp, groupHelp, type Page, programHelp } from "./help.js"
import type { Asked } from "./parse.js"

export interface Said {
  readonly stream: "stdout" | "stderr"
  readonly text: string
  readonly code: number
}

/** Returns the answer to a command line that asks for nothing to be done. */
export const said = (asked: Exclude<Asked, { _tag: "Run" }>, page: Page): Said => {
  switch (asked._tag) {
    case "Version":
      return { stream: "stdout", text: `${version} (ARCP 1.1)`, code: 0 }
    case "Help":
      return {
        stream: "stdout",
        text:
          asked.about === undefined
            ? programHelp(entries, page)
            : isGroup(asked.about)
              ? groupHelp(asked.about, page)
              : commandHelp(asked.about, page),
        code: 0
      }
    case "Completions":
      return { stream: "stdout", text: completions(asked.shell, entries).trimEnd(), code: 0 }
    case "Refused":
      return { stream: "stderr", text: `error: ${asked.message}\n  ${asked.hint}`, code: 2 }
  }
}
