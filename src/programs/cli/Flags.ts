/**
 * What a command takes, as data: from it come parsing, help, completions and messages. Nothing of Effect is loaded here,
 * so that `arcp --help` costs little more than Node itself.
 */
import type * as Option from "effect/Option"

/** A flag whose value is an `A`. */
export interface Flag<A> {
  readonly name: string
  readonly kind: "text" | "integer" | "boolean" | "choice"
  /** What a `choice` may be. */
  readonly choices: ReadonlyArray<string>
  readonly occurs: "once" | "optional" | "sourced" | "repeated"
  readonly description: string
  /** The heading of help under which it stands. */
  readonly group: string
  /** How help calls the value. */
  readonly value: string
  /** The variable of the environment that stands in for it. */
  readonly environment: string | undefined
  readonly fallback: unknown
  /** Never there: what the compiler infers `A` from. */
  readonly type?: A
  pipe<B>(ab: (self: Flag<A>) => B): B
  pipe<B, C>(ab: (self: Flag<A>) => B, bc: (b: B) => C): C
  pipe<B, C, D>(ab: (self: Flag<A>) => B, bc: (b: B) => C, cd: (c: C) => D): D
  pipe<B, C, D, E>(ab: (self: Flag<A>) => B, bc: (b: B) => C, cd: (c: C) => D, de: (d: D) => E): E
  pipe<B, C, D, E, F>(
    ab: (self: Flag<A>) => B,
    bc: (b: B) => C,
    cd: (c: C) => D,
    de: (d: D) => E,
    ef: (e: E) => F
  ): F
}

type Spec = Omit<Flag<unknown>, "pipe" | "type">

const of = <A>(spec: Spec): Flag<A> => ({
  ...spec,
  pipe: (...steps: ReadonlyArray<(value: never) => unknown>) =>
    steps.reduce<unknown>((value, step) => step(value as never), of<A>(spec)) as never
})

const plain = <A>(name: string, kind: Spec["kind"], value: string, choices: ReadonlyArray<string> = []) =>
  of<A>({
    name,
    kind,
    choices,
    occurs: "once",
    description: "",
    group: "Flags",
    value,
    environment: undefined,
    fallback: kind === "boolean" ? false : undefined
  })

export const text = (name: string) => plain<string>(name, "text", "TEXT")
export const integer = (name: string) => plain<number>(name, "integer", "N")
export const boolean = (name: string) => plain<boolean>(name, "boolean", "")
export const choice = <const C extends string>(name: string, choices: ReadonlyArray<C>) =>
  plain<C>(name, "choice", choices.join("|"), choices)

type Step = <A>(self: Flag<A>) => Flag<A>
export const withDescription =
  (description: string): Step =>
  (self) =>
    of({ ...self, description })
/** Names the value in help, and the part of help that the flag is in. */
export const shownAs =
  (value: string, group?: string): Step =>
  (self) =>
    of({ ...self, value, group: group ?? self.group })
export const inGroup =
  (group: string): Step =>
  (self) =>
    of({ ...self, group })
export const withEnvironment =
  (environment: string): Step =>
  (self) =>
    of({ ...self, environment })
export const withDefault =
  <const B>(fallback: B) =>
  <A>(self: Flag<A>): Flag<A | B> =>
    of({ ...self, fallback })
export const optional = <A>(self: Flag<A>): Flag<Option.Option<A>> => of({ ...self, occurs: "optional" })
/** A value, and whether it was written or stands in the environment. */
export interface Sourced<A> {
  readonly value: A
  readonly from: "flag" | "environment"
}
/** What it is when it is neither is for the command to say; the default is what help shows. */
export const sourced = <A>(self: Flag<A>): Flag<Sourced<A> | undefined> => of({ ...self, occurs: "sourced" })
export const repeated = <A>(self: Flag<A>): Flag<ReadonlyArray<A>> => of({ ...self, occurs: "repeated" })

export type Flags = Readonly<Record<string, Flag<unknown>>>
/** What a command is given of its flags. */
export type Values<F extends Flags> = {
  readonly [K in keyof F]: F[K] extends Flag<infer A> ? A : never
}

/** Returns the flags in the order, under the headings and with the words for their values that help shows. */
export const presented = <F extends Flags>(
  flags: F,
  presentation: Readonly<Record<string, Readonly<Partial<Record<keyof F & string, string>>>>>
): F => {
  const shown = Object.entries(presentation).flatMap(([group, values]) =>
    Object.entries<string | undefined>(values).flatMap(([key, value = ""]) => {
      const flag = flags[key]
      return flag === undefined ? [] : [[key, of({ ...flag, group, value })] as const]
    })
  )
  // Those that are not presented stay where they are.
  return {
    ...Object.fromEntries(shown),
    ...Object.fromEntries(Object.entries(flags).filter(([key]) => !shown.some(([name]) => name === key)))
  } as F
}
