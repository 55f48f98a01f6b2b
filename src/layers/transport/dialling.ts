/** What dialers may be made with where no compiler has looked: by name, what an option has to be. Mistakes throw at the call. */
import {
  boolean,
  check,
  either,
  fields,
  finiteDuration,
  listOf,
  maybe,
  positive,
  positiveDuration,
  type Rule,
  string,
  that
} from "../../protocol/Argument.js"

/** A text that the operating system takes. */
const path = that(
  "a text without NUL, and not empty",
  (value) => typeof value === "string" && value !== "" && !value.includes("\0")
)
const word = that("a text without NUL", (value) => typeof value === "string" && !value.includes("\0"))

/** An object whose values are all texts, or some of them left out. */
const texts: Rule = that(
  "an object of texts",
  (value) =>
    typeof value === "object" &&
    value !== null &&
    !Array.isArray(value) &&
    Object.values(value).every((one) => one === undefined || typeof one === "string")
)

const webSocket = fields({
  url: string,
  maxFrameBytes: maybe(positive),
  connectTimeout: maybe(positiveDuration),
  allowInsecure: maybe(boolean),
  headers: maybe(texts),
  ca: maybe(either(path, that("PEM certificates", Buffer.isBuffer)))
})

const stdio = fields({
  command: path,
  args: maybe(listOf(word)),
  cwd: maybe(path),
  env: maybe(texts),
  maxFrameBytes: maybe(positive),
  killGrace: maybe(finiteDuration)
})

/** Throws when no WebSocket can be dialled with these options. */
export const checkWebSocket = (options: unknown): void =>
  check("DialerWebSocket.layer", ["options", webSocket, options])

/** Throws when no runtime can be started with these options. */
export const checkStdio = (options: unknown): void => check("DialerStdio.layer", ["options", stdio, options])
