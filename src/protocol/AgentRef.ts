/** Agent references, `name` or `name@version` (§7.5), and how a bare name resolves. */
import * as Option from "effect/Option"

export interface AgentRef {
  readonly name: string
  readonly version: string | undefined
}

const namePattern = /^[a-z0-9][a-z0-9._-]*$/
const versionPattern = /^[a-zA-Z0-9.+_-]+$/
const maxLength = 256

export const isName = (name: string): boolean => name.length <= maxLength && namePattern.test(name)
export const isAgentVersion = (version: string): boolean =>
  version.length <= maxLength && versionPattern.test(version)

/** Parses a reference; `None` when it does not follow the grammar. */
export const parse = (text: string): Option.Option<AgentRef> => {
  const at = text.indexOf("@")
  const name = at < 0 ? text : text.slice(0, at)
  const version = at < 0 ? undefined : text.slice(at + 1)
  return isName(name) && (version === undefined || isAgentVersion(version))
    ? Option.some({ name, version })
    : Option.none()
}

export const format = (ref: { readonly name: string; readonly version: string }): string =>
  `${ref.name}@${ref.version}`

const semver = /^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?$/

const compareIdentifiers = (a: string, b: string): number => {
  const an = /^\d+$/.test(a)
  const bn = /^\d+$/.test(b)
  if (an && bn) return Number(a) - Number(b)
  if (an !== bn) return an ? -1 : 1
  return a < b ? -1 : a > b ? 1 : 0
}

/** SemVer 2.0 precedence, or `undefined` when one of the two is not SemVer. */
export const compareVersions = (a: string, b: string): number | undefined => {
  const ma = semver.exec(a)
  const mb = semver.exec(b)
  if (ma === null || mb === null) return undefined
  for (let i = 1; i <= 3; i++) {
    const d = Number(ma[i]) - Number(mb[i])
    if (d !== 0) return d
  }
  const pa = ma[4]
  const pb = mb[4]
  if (pa === undefined || pb === undefined) return pa === pb ? 0 : pa === undefined ? 1 : -1
  const as = pa.split(".")
  const bs = pb.split(".")
  for (const [i, a] of as.entries()) {
    const b = bs[i]
    if (b === undefined) break
    const d = compareIdentifiers(a, b)
    if (d !== 0) return d
  }
  return as.length - bs.length
}

/**
 * The version a bare name means: the declared default, else the only one, else the highest by
 * SemVer (when every version is SemVer), else the last registered.
 */
export const defaultVersion = (versions: ReadonlyArray<string>, declared?: string): string | undefined => {
  if (declared !== undefined) return declared
  let [best, ...others] = versions
  if (best === undefined) return undefined
  for (const version of others) {
    const order = compareVersions(version, best)
    if (order === undefined) return versions[versions.length - 1]
    if (order > 0) best = version
  }
  return best
}
