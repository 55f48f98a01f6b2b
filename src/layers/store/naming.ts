/**
 * The names of tables and indexes in a database that holds others' as well. Statements have them in braces, `{jobs}`, and a
 * store puts its prefix before each.
 */
import { cut } from "../../protocol/Text.js"

/** Lower case, so that no two prefixes are the same to a database; it is put into statements as it is. */
const prefixes = /^[a-z][a-z0-9_]{0,31}$/

/** Texts that are remembered; those of listings differ by how many principals and states are asked for. */
const maxTexts = 1_000

/** Gives the statement in which every name in braces has the prefix. */
export type Naming = (sql: string) => string

/** Returns what is wrong with a prefix, or `undefined`. */
export const prefixProblem = (prefix: string): string | undefined =>
  prefix === "" || (prefixes.test(prefix) && !prefix.startsWith("sqlite_"))
    ? undefined
    : `${JSON.stringify(prefix)} cannot be the prefix of tables: give up to 32 lower-case letters, digits and ` +
      "underscores that begin with a letter, and not with sqlite_"

/** Characters of the name of a node: it is a key in Postgres, and stands in lists, logs and metrics. */
const longestNode = 255

/** Returns what is wrong with the name of a node, or `undefined`. */
export const nodeProblem = (node: string): string | undefined => {
  if (node === "") return "the name of a node is not empty"
  if (node.length <= longestNode && /^[\p{L}\p{N}._:@/+~-]+$/u.test(node)) return undefined
  const shown = JSON.stringify(node.length > 40 ? `${cut(node, 40)}…` : node)
  return `${shown} cannot be the name of a node: give up to ${longestNode} letters, digits and characters of . _ : @ / + ~ -`
}

/** Returns the naming of a prefix that has no problem. */
export const naming = (prefix: string): Naming => {
  const texts = new Map<string, string>()
  return (sql) => {
    const known = texts.get(sql)
    if (known !== undefined) return known
    if (texts.size >= maxTexts) texts.clear()
    const named = sql.replace(/\{(\w+)\}/g, `${prefix}$1`)
    texts.set(sql, named)
    return named
  }
}
