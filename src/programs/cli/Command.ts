/** A command of `arcp`: what it takes, and where what it does is to be loaded from. */
import type * as FileSystem from "@effect/platform/FileSystem"
import type * as Path from "@effect/platform/Path"
import type * as Effect from "effect/Effect"
import type { Flags, Values } from "./Flags.js"

/** A word that is not a flag. */
export interface Argument {
  /** As help names it, like `JOB`. */
  readonly name: string
  readonly description: string
  readonly optional: boolean
}

/** What every command may ask for. */
export type Surroundings = FileSystem.FileSystem | Path.Path

/** What was given, by the name of the flag in the command, decoded; the words under `arguments`. */
export interface Given {
  readonly flags: Readonly<Record<string, unknown>>
  readonly words: ReadonlyArray<string>
}

/** What a command does, once it is loaded. */
export type Run<F extends Flags> = (
  flags: Values<F>,
  ...words: ReadonlyArray<string>
) => Effect.Effect<void, unknown, Surroundings>

/** The texts that a command was given, by the name of the flag. */
export interface Written {
  readonly texts: ReadonlyMap<string, ReadonlyArray<string>>
  /** Those that stand in the environment only. */
  readonly inherited: ReadonlySet<string>
  readonly words: ReadonlyArray<string>
}

/** Flags that say something only where something else does too: elsewhere nobody would look at them. */
export interface Only {
  readonly flags: ReadonlyArray<string>
  readonly where: (written: Written) => boolean
  /** The rest of a sentence that begins with the flag, such as `is for --running`. */
  readonly why: string
  /** Whether that is only warned of: servers are started by scripts, which lose nothing by one flag too many. */
  readonly warns?: boolean
}

/** Whether a switch is on. */
export const isOn = ({ texts }: Written, flag: string): boolean => texts.get(flag)?.[0] === "true"

/** Returns what there is to say of flags that nobody would look at, each as a sentence, of those that warn or of the others. */
export const idle = (onlys: ReadonlyArray<Only>, written: Written, warns: boolean): ReadonlyArray<string> =>
  onlys
    .filter((only) => (only.warns ?? false) === warns && !only.where(written))
    .flatMap(({ flags, why }) =>
      flags
        // What stands in the environment is for whoever may use it.
        .filter((flag) => written.texts.has(flag) && !written.inherited.has(flag))
        .map((flag) => `--${flag} ${why}`)
    )

interface Described<F extends Flags> {
  /** The word, or the two words, that mean it. */
  readonly name: string
  /** One line. */
  readonly summary: string
  readonly arguments?: ReadonlyArray<Argument>
  readonly flags: F
  /** Command lines to copy. */
  readonly examples: ReadonlyArray<string>
  /** Sections of help below the flags: heading and lines. */
  readonly more?: Readonly<Record<string, ReadonlyArray<string>>>
  /** The modules of the user's that it loads, which import Effect and this package. */
  readonly modules?: (written: Written) => ReadonlyArray<string>
  readonly onlys?: ReadonlyArray<Only>
  /** Whether it goes on when nothing of what it prints can be written. */
  readonly serves?: boolean
  /** Whether a signal is how it comes to its end, and not what keeps it from one. */
  readonly untilSignal?: boolean
}

/** A command, its types erased. */
export interface Command extends Required<Described<Flags>> {
  /** Loads what it does and gives it what it was given. */
  readonly start: (given: Given) => Promise<Effect.Effect<void, unknown, Surroundings>>
}

/** Commands that begin with the same word, such as `arcp context add`. */
export interface Group {
  readonly name: string
  /** One line. */
  readonly summary: string
  readonly commands: ReadonlyArray<Command>
  /** What the word means when none of these follows it. */
  readonly alone?: Command
  readonly examples: ReadonlyArray<string>
  readonly more: Readonly<Record<string, ReadonlyArray<string>>>
}

export const isGroup = (entry: Command | Group): entry is Group => "commands" in entry

/** Returns every command of these, those of groups by both their words. */
export const allOf = (entries: ReadonlyArray<Command | Group>): ReadonlyArray<Command> =>
  entries.flatMap((entry) =>
    isGroup(entry) ? [...(entry.alone === undefined ? [] : [entry.alone]), ...entry.commands] : [entry]
  )

export const make = <F extends Flags>(
  described: Described<F>,
  load: () => Promise<{ readonly run: Run<F> }>
): Command & { readonly flags: F } => ({
  arguments: [],
  more: {},
  onlys: [],
  modules: () => [],
  untilSignal: false,
  serves: false,
  ...described,
  // The flags were decoded by their declaration, which is what their type is inferred from.
  start: async ({ flags, words }) => (await load()).run(flags as Values<F>, ...words)
})
