/** What a job is to be allowed, before it is submitted. */
import { deadPattern, invalidLease, type Lease } from "../../../protocol/Lease.js"
import { line } from "../model/text.js"

/** A lease as it is written: a capability and its patterns, one a line. */
export interface Allowed {
  readonly capability: string
  readonly patterns: string
}

const capabilities: Readonly<Record<string, string>> = {
  "fs.read": "/src/**",
  "fs.write": "/tmp/**",
  "net.fetch": "https://api.example.com/**",
  "tool.call": "search.*",
  "agent.delegate": "*",
  "model.use": "**",
  "cost.budget": "USD:5.00"
}

/** The lease that the rows stand for. */
export const leaseOf = (rows: ReadonlyArray<Allowed>): Lease => {
  const lease: Record<string, Array<string>> = {}
  for (const { capability, patterns } of rows) {
    const given = patterns
      .split("\n")
      .map((pattern) => pattern.trim())
      .filter((pattern) => pattern !== "")
    if (given.length > 0) lease[capability] = [...(lease[capability] ?? []), ...given]
  }
  return lease
}

/** What is wrong with a lease: what the runtime refuses, and what can match nothing. */
export const problemOf = (rows: ReadonlyArray<Allowed>): string | undefined => {
  const lease = leaseOf(rows)
  return invalidLease(lease) ?? deadPattern(lease)
}

/** The rows that stand for a lease. */
export const rowsOf = (lease: Lease): ReadonlyArray<Allowed> =>
  Object.entries(lease).map(([capability, patterns]) => ({
    capability,
    patterns: (patterns ?? []).join("\n")
  }))

export const LeaseEditor = ({
  onChange,
  problem,
  rows
}: {
  /** What is wrong with the lease. */
  readonly problem: string | undefined
  readonly rows: ReadonlyArray<Allowed>
  readonly onChange: (rows: ReadonlyArray<Allowed>) => void
}) => {
  const set = (i: number, row: Partial<Allowed>) =>
    onChange(rows.map((held, k) => (k === i ? { ...held, ...row } : held)))
  return (
    <fieldset>
      <legend>What it may</legend>
      {rows.length === 0 ? (
        <p class="quiet">Nothing: without a lease it touches no file, network, tool or model.</p>
      ) : null}
      {rows.map(({ capability, patterns }, i) => (
        <div key={i} class="row item allowed">
          <select
            aria-label="capability"
            value={capability}
            onChange={(event) => set(i, { capability: event.currentTarget.value })}
          >
            {[...new Set([...Object.keys(capabilities), capability])].map((name) => (
              <option key={name} value={name}>
                {name}
              </option>
            ))}
          </select>
          <textarea
            class="code"
            rows={Math.min(6, Math.max(1, patterns.split("\n").length))}
            aria-label={`${capability}: patterns, one a line`}
            placeholder={capabilities[capability] ?? "**"}
            spellcheck={false}
            value={patterns}
            onInput={(event) => set(i, { patterns: event.currentTarget.value })}
          />
          <button
            type="button"
            class="small"
            aria-label={`remove ${capability}`}
            onClick={() => onChange(rows.filter((_, k) => k !== i))}
          >
            ✕
          </button>
        </div>
      ))}
      {problem === undefined ? null : (
        <p class="wrong" role="alert">
          {line(problem, 300)}
        </p>
      )}
      <div class="row">
        <button
          type="button"
          class="small"
          onClick={() => onChange([...rows, { capability: "fs.read", patterns: "" }])}
        >
          allow something
        </button>
        <button
          type="button"
          class="small"
          onClick={() => onChange([...rows, { capability: "cost.budget", patterns: "" }])}
        >
          give a budget
        </button>
      </div>
    </fieldset>
  )
}
