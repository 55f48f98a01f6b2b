/**
 * What agents and tools throw, as a runtime can work with it. It is a value of theirs: a message may be no text, a cause may be
 * its own, an error may be of another realm, and a getter or proxy may throw at every look. It is looked at here, once.
 */
import * as Cause from "effect/Cause"
import * as Exit from "effect/Exit"
import { type ArcpError, fromPayload, isArcpError } from "../../protocol/Errors.js"
import { cut } from "../../protocol/Text.js"

/** Causes of causes, and errors of one cause, that are looked at. */
const maxDepth = 8
const maxErrors = 16

/** Characters that are kept of each text of an error, and of everything that a log shows of it. */
const maxText = 8_192
const maxShown = 65_536

type Members = Readonly<Record<"name" | "message" | "stack" | "cause" | "errors" | "code" | "_tag", unknown>>

const look = <A>(at: () => A): A | undefined => {
  try {
    return at()
  } catch {
    return undefined
  }
}

const textOf = (at: () => unknown, otherwise: string): string => {
  const text = look(() => String(at())) ?? otherwise
  return text.length > maxText ? `${cut(text, maxText)}… (${text.length} characters)` : text
}

/** Would it be shown in few characters? Stops counting when not: whoever writes a log has others to serve. */
const isSmall = (value: unknown): boolean => {
  const seen = new Set<unknown>()
  let left = maxShown
  const fits = (u: unknown): boolean => {
    if (typeof u === "string") left -= u.length
    if (typeof u !== "object" || u === null || seen.has(u)) return left > 0
    seen.add(u)
    if (ArrayBuffer.isView(u)) left -= u.byteLength
    else
      for (const key in u) {
        left -= key.length + 1
        if (left <= 0 || !fits((u as Readonly<Record<string, unknown>>)[key])) return false
      }
    return left > 0
  }
  return fits(value)
}

/** Is it an error, of this realm or of another? */
const isError = (u: unknown): u is Members =>
  u instanceof Error || Object.prototype.toString.call(u) === "[object Error]"

/** Copies what can be read of an error into one whose members are what they should be. */
const copied = (thrown: unknown, depth: number): Error => {
  if (look(() => isError(thrown)) !== true)
    return new Error(
      `what was thrown is no error: ${textOf(
        () =>
          typeof thrown === "string" || isSmall(thrown)
            ? thrown
            : `much, of the kind ${Object.prototype.toString.call(thrown)}`,
        "it cannot be read"
      )}`
    )
  const error = thrown as Members
  const copy = new Error(textOf(() => error.message, "its message cannot be read"))
  copy.name = textOf(() => error.name, "Error")
  copy.stack = textOf(() => error.stack, `${copy.name}: ${copy.message}`)
  const cause = look(() => error.cause)
  if (cause !== undefined && depth < maxDepth) copy.cause = copied(cause, depth + 1)
  const code = look(() => error.code)
  const _tag = look(() => error._tag)
  return typeof code === "string" && typeof _tag === "string" ? Object.assign(copy, { code, _tag }) : copy
}

/** Returns details that are an object; of others, that they are none. */
const detailsOf = (error: ArcpError): ArcpError["details"] => {
  const { details } = error
  const kind = Object.prototype.toString.call(details).slice(8, -1)
  return details === undefined || (typeof details === "object" && kind === "Object")
    ? details && { ...details }
    : { omitted: `details: ${kind}, not an object` }
}

/** An error of the protocol: the same, when it can be written as one. */
const written = (error: ArcpError): ArcpError => {
  const { code, message } = error
  const details = look(() => [detailsOf(error)])
  const isSound = typeof message === "string" && details !== undefined && !details[0]?.["omitted"]
  if (isSound) return error
  return fromPayload({
    code,
    message: textOf(() => message, ""),
    retryable: false,
    details: details === undefined ? { omitted: "details: cannot be read" } : details[0]
  })
}

/** Are it and its causes errors of this realm, or none at all? What prints causes knows no others. */
const isLocal = (u: unknown, depth = 0): boolean =>
  !isError(u) ||
  (u instanceof Error && (u.cause === undefined || depth === maxDepth || isLocal(u.cause, depth + 1)))

const isReadable = (thrown: unknown): boolean =>
  thrown !== undefined &&
  typeof thrown !== "symbol" &&
  // Effect asks everything that is thrown for members, and functions are no exception; a trap that throws is not seen otherwise.
  typeof Reflect.has(Object(thrown), "_tag") === "boolean" &&
  isLocal(thrown) &&
  (isError(thrown) || isSmall(thrown)) &&
  Cause.pretty(Cause.die(thrown), { renderErrorCause: true }).length <= maxShown

/**
 * Returns the very value when all of it can be read, and is little enough to be logged; in place of any other an error that has
 * what can be read.
 */
export const readable = (thrown: unknown): unknown => {
  const read = look(() => (isArcpError(thrown) ? [written(thrown)] : isReadable(thrown) ? [thrown] : []))
  if (read?.length === 1) return read[0]
  const copy = copied(thrown, 0)
  return isArcpError(copy) ? written(copy) : copy
}

/** Returns a cause whose defects, and errors of the protocol, can be read. A failure that somebody declares is theirs. */
export const readableCause = <E>(cause: Cause.Cause<E>): Cause.Cause<E | ArcpError> =>
  Cause.match(cause, {
    onEmpty: Cause.empty as Cause.Cause<E | ArcpError>,
    onFail: (error) => {
      const read = look(() => isArcpError(error) && readable(error))
      return isArcpError(read) ? Cause.fail(read) : Cause.fail(error)
    },
    onDie: (defect) => Cause.die(readable(defect)),
    onInterrupt: (fiberId) => Cause.interrupt(fiberId),
    onSequential: (left, right) => Cause.sequential(left, right),
    onParallel: (left, right) => Cause.parallel(left, right)
  })

/** Returns an exit whose cause is as `readableCause` has it. */
export const readableExit = <A, E>(exit: Exit.Exit<A, E>): Exit.Exit<A, E | ArcpError> =>
  Exit.isSuccess(exit) ? exit : Exit.failCause(readableCause(exit.cause))

/** Collects the errors that an `AggregateError` is made of, also where it is the cause of another. */
const collect = (u: unknown, into: Set<unknown>, depth = 0): Set<unknown> => {
  if (!(u instanceof Error) || depth === maxDepth) return into
  if ("errors" in u && Array.isArray(u.errors))
    for (const error of u.errors) {
      if (into.has(error) || into.size >= maxErrors) continue
      into.add(error)
      collect(error, into, depth + 1)
    }
  return collect(u.cause, into, depth + 1)
}

/** Returns a cause for a log, whose printing leaves out what an `AggregateError` is made of: with that beside it. */
export const whole = <E>(cause: Cause.Cause<E>): Cause.Cause<E> =>
  [...Cause.defects(cause)]
    .flatMap((defect) => [...(look(() => collect(defect, new Set())) ?? [])])
    .reduce<Cause.Cause<E>>((all, error) => Cause.parallel(all, Cause.die(readable(error))), cause)
