/** Leaves when what a command prints cannot be written: nothing of Effect is loaded for that, since help is printed, too. */
import { codeOf, fileProblem } from "../../services/runtime/fileProblem.js"

/** The codes that the process leaves with then. */
export const unwritten = {
  /** The disk is full, for example. Whatever was asked for may have been done. */
  output: 6,
  /** As a shell reports a program that wrote to a pipe nobody reads any more. */
  brokenPipe: 141
} as const

/** Whoever reads what we print, `head` for example, has gone: that is how they say that it is enough. */
const leaveOnBrokenPipe = (error: unknown) => {
  if (codeOf(error) === "EPIPE") process.exit(unwritten.brokenPipe)
}

const onStdout = (error: unknown) => {
  leaveOnBrokenPipe(error)
  process.stderr.write(`error: the output could not be written: ${fileProblem(error)}\n`)
  process.exit(unwritten.output)
}

/** Has this process leave as soon as its output is lost. What cannot be written to stderr is told nobody, and changes nothing. */
export const leaveUnwritten = (): void => {
  if (process.stdout.listeners("error").includes(onStdout)) return
  process.stdout.on("error", onStdout)
  process.stderr.on("error", leaveOnBrokenPipe)
}
