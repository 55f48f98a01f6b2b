/** A submit as a command line, and as a program. */
import type { Lease } from "../../../protocol/Lease.js"

export interface Submission {
  readonly agent: string
  readonly input: unknown
  readonly lease: Lease
  readonly maxRuntimeSec: number | undefined
  /** `10m`: how long the lease holds, from the submit on. */
  readonly expiresIn: string
  readonly key: string
}

/** Returns the milliseconds of `30s`, `10m`, `2h` or `1d`, `undefined` when it is none of these. */
export const durationMs = (text: string): number | undefined => {
  const [, amount, unit] = /^(\d{1,6})([smhd])$/.exec(text.trim()) ?? []
  const ms = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }[unit ?? ""]
  return ms === undefined || Number(amount) === 0 ? undefined : Number(amount) * ms
}

/** A word of a shell's, whatever is in it. */
export const quoted = (text: string): string =>
  /^[A-Za-z0-9_./:@=-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`

/** Returns the command that submits the same; the token comes from the environment. */
export const asCommand = (
  { agent, expiresIn, input, key, lease, maxRuntimeSec }: Submission,
  url: string
): string => {
  const flags = [
    `--url ${quoted(url)}`,
    `--input ${quoted(JSON.stringify(input) ?? "null")}`,
    ...Object.entries(lease).flatMap(([capability, patterns]) =>
      patterns.map((pattern) =>
        capability === "cost.budget"
          ? `--budget ${quoted(pattern)}`
          : `--lease ${quoted(`${capability}=${pattern}`)}`
      )
    ),
    ...(expiresIn === "" ? [] : [`--expires-in ${quoted(expiresIn)}`]),
    ...(maxRuntimeSec === undefined ? [] : [`--timeout-sec ${maxRuntimeSec}`]),
    ...(key === "" ? [] : [`--key ${quoted(key)}`])
  ]
  return `arcp submit ${quoted(agent)} \\\n  ${flags.join(" \\\n  ")}`
}

/** JSON as the source of a program has it: no line separators that end a line of one, and no tag of a page's. */
const literal = (value: unknown, indent: string): string =>
  (JSON.stringify(value, null, 2) ?? "null").replaceAll("<", "\\u003c").replaceAll("\n", `\n${indent}`)

/** Returns a program that submits the same and waits for the result. */
export const asCode = (
  { agent, expiresIn, input, key, lease, maxRuntimeSec }: Submission,
  url: string
): string => {
  const ms = durationMs(expiresIn)
  const options = [
    ...(Object.keys(lease).length === 0 ? [] : [`leaseRequest: ${literal(lease, "  ")}`]),
    ...(ms === undefined
      ? []
      : [`leaseConstraints: { expires_at: new Date(Date.now() + ${ms}).toISOString() }`]),
    ...(maxRuntimeSec === undefined ? [] : [`maxRuntime: "${maxRuntimeSec} seconds"`]),
    ...(key === "" ? [] : [`idempotencyKey: ${literal(key, "  ")}`])
  ]
  const last = options.length === 0 ? "" : `, {\n  ${options.join(",\n  ")}\n}`
  return `import { Arcp } from "effect-arcp/promise"

const session = await Arcp.connect({ url: ${literal(url, "")}, token: process.env.ARCP_TOKEN })
const job = await session.submit(${literal(agent, "")}, ${literal(input, "")}${last})
for await (const event of job.events) console.log(event.kind, event.body)
console.log(await job.result)
await session.close()
`
}
