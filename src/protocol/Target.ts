/**
 * What an operation is about, in the one form in which it is compared with patterns (§9.2). Whoever acts on a
 * target acts on this form of it, so that nothing can read it differently afterwards.
 */
import * as Either from "effect/Either"

export type TargetKind = "path" | "url" | "name"

/** How the targets of a capability are read. */
export const kindOf = (capability: string): TargetKind =>
  capability.startsWith("fs.") ? "path" : capability === "net.fetch" ? "url" : "name"

/** Characters a target may have, in its canonical form too. */
const maxLength: Readonly<Record<TargetKind, number>> = { path: 4096, url: 8192, name: 1024 }

/** Control characters, or half a surrogate pair: such text is written to mislead, or reads differently elsewhere. */
export const isUnclean = (text: string): boolean => unclean.test(text)

const unclean = /[\p{Cc}\p{Cs}]/u

/**
 * The canonical form, which is its own canonical form; or why there is none: a phrase that never repeats the target.
 *
 * @example
 * canonical("path", "/src/./a//../b/")             // Right("/src/b")
 * canonical("url", "HTTPS://Api.example:443/%7ea") // Right("https://api.example/~a")
 */
export const canonical = (kind: TargetKind, target: string): Either.Either<string, string> => {
  if (target.length === 0) return Either.left("it is empty")
  if (target.length > maxLength[kind]) return tooLong(kind)
  if (isUnclean(target)) return Either.left("it has control characters or is not well-formed Unicode")
  switch (kind) {
    case "name":
      return Either.right(target)
    case "path":
      return canonicalPath(target)
    case "url":
      return canonicalUrl(target)
  }
}

const tooLong = (kind: TargetKind) => Either.left(`it has more than ${maxLength[kind]} characters`)

const canonicalPath = (path: string): Either.Either<string, string> => {
  if (!path.startsWith("/")) return Either.left("it is not an absolute path")
  // Elsewhere a separator, so what it means depends on who reads it.
  if (path.includes("\\")) return Either.left("it has a backslash")
  if (!unresolved.test(path)) return Either.right(path)
  const resolved: Array<string> = []
  for (const segment of path.split("/")) {
    if (segment === "" || segment === ".") continue
    // Above the root is the root.
    if (segment === "..") resolved.pop()
    else resolved.push(segment)
  }
  return Either.right(`/${resolved.join("/")}`)
}

/** An empty segment, a dot segment or a slash at the end: what most paths do not have. */
const unresolved = /\/\/|\/\.\.?(?:\/|$)|.\/$/

/** Protocols of the URLs that can be fetched. */
export const schemes: ReadonlySet<string> = new Set(["http", "https", "ws", "wss"])

const canonicalUrl = (text: string): Either.Either<string, string> => {
  // WHATWG takes white space away, turns backslashes into slashes, and takes `https:host` and `https:///host` too.
  if (/[\s\\]/.test(text)) return Either.left("it has white space or a backslash")
  const written = /^(?:https?|wss?):\/\/([^/?#]+)/i.exec(text)
  if (written === null)
    return Either.left("it does not start with http://, https://, ws:// or wss:// and a host")
  if (written[1]?.includes("@")) return Either.left("it has a user name or a password before its host")
  const url = parseUrl(text)
  if (url === undefined) return Either.left("it is not a URL")
  // Resolvers differ on whether `host.` is `host`, so it is neither.
  if (url.hostname.split(".").includes(""))
    return Either.left("its host has an empty label or ends with a dot")
  if (strayPercent.test(url.pathname) || strayPercent.test(url.search))
    return Either.left("it has a % that does not encode anything; write it as %25")
  const path = decodeUnreserved(url.pathname)
  if (hiddenDots.test(path)) return Either.left("its path has dot segments behind encoded separators")
  const canonical = `${url.protocol}//${url.host}${path}${decodeUnreserved(url.search)}`
  return canonical.length > maxLength.url ? tooLong("url") : Either.right(canonical)
}

export const parseUrl = (text: string): URL | undefined => {
  try {
    return new URL(text)
  } catch {
    return undefined
  }
}

/** With decoding, `%%34%31` would become `%41`, and that `A`. */
export const strayPercent = /%(?![0-9A-Fa-f]{2})/

/**
 * Dot segments that only some servers see, because `/` or `\` is encoded or `;` ends the segment; WHATWG has resolved
 * all others. Nobody who is honest writes them.
 */
const hiddenDots = /(?:^|\/|%2F|%5C)\.\.?(?:$|[/;]|%2F|%5C|%3B)/

/** Percent-decodes what never needed encoding, once; the digits of the rest in upper case. */
export const decodeUnreserved = (text: string): string =>
  text.includes("%")
    ? text.replace(/%[0-9A-Fa-f]{2}/g, (code) => {
        const char = String.fromCharCode(Number.parseInt(code.slice(1), 16))
        return /[A-Za-z0-9._~-]/.test(char) ? char : code.toUpperCase()
      })
    : text
