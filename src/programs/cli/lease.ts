/** The lease that `arcp submit` asks for, out of flags and a file. */
import { homedir } from "node:os"
import { join, resolve } from "node:path"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { parseJson } from "../../protocol/Json.js"
import { deadPattern, invalidLease, type Lease, LeaseConstraints } from "../../protocol/Lease.js"
import { describe } from "../../protocol/Problem.js"
import { fileProblem } from "../../services/runtime/fileProblem.js"
import { durationMs, latest } from "./time.js"
import { UsageError } from "./UsageError.js"

interface LeaseFlags {
  readonly lease: ReadonlyArray<string>
  readonly budget: ReadonlyArray<string>
  readonly expiresIn: Option.Option<string>
  readonly leaseFile: Option.Option<string>
}

export interface Asked {
  readonly leaseRequest?: Lease
  readonly leaseConstraints?: LeaseConstraints
}

const usage = (message: string) => new UsageError({ message })

/** Patterns of files may be relative to where the command runs, or to ~; the runtime's are absolute. */
const absolute = (capability: string, pattern: string): string => {
  if (!capability.startsWith("fs.") || pattern.startsWith("/") || pattern.startsWith("**")) return pattern
  // No shell expands it after an "=".
  return /^~(\/|$)/.test(pattern) ? join(homedir(), pattern.slice(1)) : resolve(pattern)
}

const File = Schema.Struct({
  lease_request: Schema.optional(Schema.Unknown),
  lease_constraints: Schema.optional(LeaseConstraints)
})
const decodeFile = Schema.decodeUnknown(File, { onExcessProperty: "error" })

/** A lease in which a slip grants nothing is refused here, where its author still looks. */
const problemOf = (lease: unknown): string | undefined => invalidLease(lease) ?? deadPattern(lease as Lease)

const readFile = (name: string) =>
  Effect.gen(function* () {
    const files = yield* FileSystem.FileSystem
    const text = yield* Effect.mapError(files.readFileString(name), (error) =>
      usage(`--lease-file ${name} cannot be read: ${fileProblem(error)}`)
    )
    const json = yield* Effect.try({
      try: () => parseJson(text),
      catch: () => usage(`--lease-file ${name} must hold JSON, for example {"fs.read": ["/src/**"]}`)
    })
    const isRequest =
      typeof json === "object" && json !== null && ("lease_request" in json || "lease_constraints" in json)
    const parts = yield* Effect.mapError(decodeFile(isRequest ? json : { lease_request: json }), (error) =>
      usage(`--lease-file ${name}: ${describe(error.issue, "")}`.replace(": .", ": "))
    )
    const request = parts.lease_request === undefined ? {} : parts.lease_request
    const invalid = invalidLease(request)
    if (invalid !== undefined) return yield* usage(`--lease-file ${name}: the lease ${invalid}`)
    const lease = Object.fromEntries(
      Object.entries(request as Lease).map(([capability, patterns]) => [
        capability,
        patterns.map((pattern) => absolute(capability, pattern))
      ])
    )
    const problem = problemOf(lease)
    if (problem !== undefined) return yield* usage(`--lease-file ${name}: ${problem}`)
    return { lease, constraints: parts.lease_constraints ?? {} }
  })

/** What the flags ask for; nothing when there are none. */
export const askedFor = (flags: LeaseFlags): Effect.Effect<Asked, UsageError, FileSystem.FileSystem> =>
  Effect.gen(function* () {
    const file = Option.isSome(flags.leaseFile)
      ? yield* readFile(flags.leaseFile.value)
      : { lease: {}, constraints: {} }
    const terms = new Map(
      Object.entries(file.lease).map(([capability, patterns]) => [capability, [...patterns]])
    )
    const add = (capability: string, pattern: string) =>
      terms.set(capability, [...(terms.get(capability) ?? []), pattern])
    for (const text of flags.lease) {
      const at = text.indexOf("=")
      if (at < 1 || at === text.length - 1)
        return yield* usage(`--lease takes CAPABILITY=PATTERN, e.g. --lease 'fs.read=/src/**'`)
      const capability = text.slice(0, at)
      const pattern = absolute(capability, text.slice(at + 1))
      const problem = problemOf({ [capability]: [pattern] })
      if (problem !== undefined) return yield* usage(`--lease: the lease ${problem}`)
      add(capability, pattern)
    }
    for (const text of flags.budget) {
      if (invalidLease({ "cost.budget": [text] }) !== undefined)
        return yield* usage("--budget takes CURRENCY:AMOUNT, e.g. --budget USD:5.00")
      add("cost.budget", text)
    }
    const lease = Object.fromEntries(terms)
    const problem = invalidLease(lease)
    if (problem !== undefined) return yield* usage(`the lease ${problem}`)
    const now = yield* Clock.currentTimeMillis
    let constraints: LeaseConstraints = file.constraints
    if (Option.isSome(flags.expiresIn)) {
      const ms = durationMs(flags.expiresIn.value)
      if (ms === undefined || ms === 0) return yield* usage("--expires-in takes 30s, 10m, 2h or 1d")
      if (now + ms > latest) return yield* usage("--expires-in ends after the year 9999; give it less")
      constraints = { expires_at: new Date(now + ms).toISOString() }
    } else if (constraints.expires_at !== undefined && Date.parse(constraints.expires_at) <= now)
      return yield* usage(
        `--lease-file: expires_at ${constraints.expires_at} has passed; give a later one, or --expires-in 10m`
      )
    return {
      ...(terms.size === 0 ? {} : { leaseRequest: lease }),
      ...(constraints.expires_at === undefined ? {} : { leaseConstraints: constraints })
    }
  })
