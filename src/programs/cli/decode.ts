/** The texts of a command line as the values that a command works with. */
import * as Option from "effect/Option"
import type { Command, Given, Written } from "./Command.js"
import type { Flag } from "./Flags.js"

const valueFrom = (flag: Flag<unknown>, text: string): unknown =>
  flag.kind === "integer" ? Number(text) : flag.kind === "boolean" ? text === "true" : text

const decoded = (flag: Flag<unknown>, { texts: all, inherited }: Written): unknown => {
  const texts = all.get(flag.name) ?? []
  const values = texts.map((text) => valueFrom(flag, text))
  switch (flag.occurs) {
    case "repeated":
      return values
    case "optional":
      return values.length === 0 ? Option.none() : Option.some(values[0])
    case "sourced":
      return values.length === 0
        ? undefined
        : { value: values[0], from: inherited.has(flag.name) ? "environment" : "flag" }
    case "once":
      return values.length === 0 ? flag.fallback : values[0]
  }
}

/** Returns what the command is given; what was written has been checked. */
export const decode = (command: Command, written: Written): Given => ({
  flags: Object.fromEntries(
    Object.entries(command.flags).map(([key, flag]) => [key, decoded(flag, written)])
  ),
  words: written.words
})
