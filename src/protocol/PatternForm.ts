/**
 * The form in which patterns are compared: `canonicalPattern` resolves what a target resolves (dot segments, case,
 * ports, percent-encoding) in the text of a pattern, wildcards kept.
 */
import { decodeUnreserved, isUnclean, parseUrl, schemes, strayPercent, type TargetKind } from "./Target.js"

/** `undefined` when the pattern can match nothing. */
export const canonicalPattern = (kind: TargetKind, source: string): string | undefined => {
  if (isUnclean(source)) return undefined
  // Within a longer segment `**` is `*`.
  const text = source
    .split("/")
    .map((segment) => (segment === "**" ? segment : segment.replace(/\*+/g, "*")))
    .join("/")
  switch (kind) {
    case "name":
      return text
    case "path":
      return pathPattern(text)
    case "url":
      return urlPattern(text)
  }
}

const startsDeep = (text: string): boolean => text === "**" || text.startsWith("**/")

const pathPattern = (text: string): string | undefined => {
  if (text.includes("\\")) return undefined
  if (!startsDeep(text) && !text.startsWith("/")) return undefined
  const segments = resolveDots(text.split("/").filter((segment) => segment !== ""))
  if (segments === undefined) return undefined
  return `${startsDeep(text) ? "" : "/"}${segments.join("/")}`
}

/** `undefined` when `..` follows a wildcard, because it is not clear then what it takes away. */
const resolveDots = (segments: ReadonlyArray<string>): ReadonlyArray<string> | undefined => {
  const resolved: Array<string> = []
  for (const segment of segments) {
    if (segment === ".") continue
    if (segment !== "..") resolved.push(segment)
    else if (resolved.pop()?.includes("*")) return undefined
  }
  return resolved
}

const urlPattern = (text: string): string | undefined => {
  if (/[\s\\]/.test(text)) return undefined
  if (startsDeep(text)) return deepUrlPattern("", text.slice(2))
  const match = /^([A-Za-z*][A-Za-z0-9*]*):\/\/([^/?#]+)(.*)$/.exec(text)
  if (match === null) return undefined
  const [, written = "", authority = "", rest = ""] = match
  const scheme = written.toLowerCase()
  if (!scheme.includes("*") && !schemes.has(scheme)) return undefined
  if (authority === "**") return deepUrlPattern(`${scheme}://`, rest)
  const host = hostPattern(scheme, authority)
  const path = urlPathPattern(rest, [])
  return host === undefined || path === undefined ? undefined : `${scheme}://${host}${path}`
}

/** A `**` in place of the host or more, and what follows it. */
const deepUrlPattern = (before: string, rest: string): string | undefined => {
  const path = rest === "" ? "" : urlPathPattern(rest, ["**"])
  return path === undefined ? undefined : `${before}**${path}`
}

const defaultPorts: Readonly<Record<string, string>> = { http: "80", https: "443", ws: "80", wss: "443" }

const hostPattern = (scheme: string, authority: string): string | undefined => {
  const match = /^(\[[0-9A-Fa-f:.]+\]|[^:[\]@%]+)(?::([0-9*]*))?$/.exec(authority)
  if (match === null) return undefined
  const [, name = "", written = ""] = match
  const host = asciiHost(name)
  if (host === undefined || host.split(".").includes("")) return undefined
  if (written.includes("*")) return `${host}:${written}`
  const port = written === "" ? "" : String(Number(written))
  if (Number(port) > 65535) return undefined
  return port === "" || port === defaultPorts[scheme] ? host : `${host}:${port}`
}

/** As WHATWG writes a host. It takes `*` for any other character, but not in what looks like an IPv4 address. */
const asciiHost = (name: string): string | undefined => {
  // Parts of a label say nothing of what it becomes in Punycode.
  if (name.split(".").some((label) => label.includes("*") && /[^ -~]/.test(label))) return undefined
  const host = parseUrl(`http://${name}/`)?.hostname
  if (host === undefined) return /^(?=.*\*)[0-9A-Za-z.*_-]+$/.test(name) ? name.toLowerCase() : undefined
  // Other characters that it takes for `*` were not meant as wildcards.
  return host.split("*").length === name.split("*").length ? host : undefined
}

/** What follows the host, where `base` is what `..` meets first. */
const urlPathPattern = (rest: string, base: ReadonlyArray<string>): string | undefined => {
  const [, path = "", query = ""] = /^([^?#]*)([^#]*)/.exec(rest) ?? []
  if (strayPercent.test(path) || strayPercent.test(query)) return undefined
  const written = path
    .split("/")
    .slice(1)
    .map((segment) => (/^(?:\.|%2e){1,2}$/i.test(segment) ? segment.replace(/%2e/gi, ".") : segment))
  const segments = resolveDots([...base, ...written])?.slice(base.length)
  if (segments === undefined) return undefined
  // A dot segment at the end leaves the slash before it.
  const end = /^\.\.?$/.test(written[written.length - 1] ?? "") && segments.length > 0 ? "/" : ""
  const url = parseUrl(`http://host/${segments.join("/")}${end}${query}`)
  return url && decodeUnreserved(url.pathname + url.search)
}
