/** What `arcp replay --steps` shows: what a durable job has done, asked and waited for. */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { About } from "../../../layers/jobs/durable/Journal.js"
import { readJournal } from "../../../layers/jobs/durable/readJournal.js"
import * as Vendor from "../../../protocol/Vendor.js"
import { Turn } from "../../../services/runtime/Turn.js"
import { type JobRecord, Store, type StoredEvent, type StoreError } from "../../../services/store/Store.js"
import { cut, padded, widest } from "../columns.js"
import { inLine } from "../text.js"
import { took } from "../time.js"

/** What is known of one key of a durable job. */
export interface StepRow {
  readonly key: string
  readonly kind: string
  /** Of what it has come to: `open` is not yet, `cut off` without an outcome. */
  readonly state: string
  readonly attempts: number
  /** Milliseconds from its beginning to its end, all attempts and what was between them; of its last attempt where the beginning is not retained. */
  readonly ms: number | undefined
  /** The step in which it was. */
  readonly within: string | undefined
  /** When it began, as far as its events are retained. */
  readonly started_at: string | undefined
  readonly note: string
}

interface StepTold {
  readonly at: string
  /** Its place among those that began. */
  readonly order: number
  /** Whether `at` is when it began, and not the first that is retained. */
  readonly isWhole: boolean
  state: string
  attempt: number
  ms: number | undefined
  note: string
}

type Body = { readonly [_ in string]?: unknown }

const text = (value: unknown): string => (typeof value === "string" ? value : "")

/** How the closing of a question reads. */
const closed = ({ by, reason }: Body): string => `${text(reason)}${typeof by === "string" ? ` by ${by}` : ""}`

/** Collects what events tell of keys; of questions by their ids. */
export class Telling {
  readonly steps = new Map<string, StepTold>()
  readonly inputs = new Map<string, StepTold>()
  private count = 0

  take({ payload }: StoredEvent): void {
    const { body = {}, kind, ts } = JSON.parse(payload) as { kind?: string; ts?: string; body?: Body }
    const at = text(ts)
    if (kind === Vendor.step) this.step(body, at)
    else if (kind === Vendor.inputRequest) {
      const note = text(body["prompt"])
      this.inputs.set(text(body["input_id"]), {
        at,
        order: this.count++,
        isWhole: true,
        state: "open",
        attempt: 1,
        ms: undefined,
        note
      })
    } else if (kind === Vendor.inputClosed) {
      const asked = this.inputs.get(text(body["input_id"]))
      if (asked === undefined) return
      asked.state = closed(body)
      asked.ms = Date.parse(at) - Date.parse(asked.at)
    }
  }
  private step({ attempt, key, ms, state, until }: Body, at: string): void {
    const name = text(key)
    const known = this.steps.get(name) ?? {
      at,
      order: this.count++,
      isWhole: state === "started" && attempt === 1,
      state: "",
      attempt: 1,
      ms: undefined,
      note: ""
    }
    this.steps.set(name, known)
    known.state = text(state)
    known.attempt = typeof attempt === "number" ? attempt : known.attempt
    const isOver = state === "ended" || state === "failed"
    const own = typeof ms === "number" ? ms : undefined
    known.ms = !isOver ? undefined : known.isWhole ? Date.parse(at) - Date.parse(known.at) : own
    if (typeof until === "string") known.note = `until ${until}`
  }
}

const kinds: ReadonlySet<string> = new Set(["step", "sleep", "delegate", "input"])

type Keyed = About & { readonly inputId?: string | undefined }

const stateOf = (told: StepTold | undefined, kind: string, hasOutcome: boolean, over: boolean): string => {
  if (kind === "input" && told !== undefined) return told.state
  if (!hasOutcome) return told?.state === "failed" ? "cut off" : over ? "cut off" : "open"
  return told?.state === "failed" ? "failed" : kind === "delegate" ? "delegated" : "ended"
}

/** Reads the rows of a job, in the order in which they began as far as that is known. */
export const rowsOf = (
  job: JobRecord,
  events: Stream.Stream<StoredEvent, StoreError, Store>
): Effect.Effect<ReadonlyArray<StepRow>, StoreError, Store> =>
  Effect.gen(function* () {
    const store = yield* Store
    const telling = new Telling()
    yield* Stream.runForEach(events, (event) =>
      Effect.sync(() => {
        if (event.type === "job.event") telling.take(event)
      })
    )
    const rows: Array<StepRow & { readonly order: number; readonly ordinal: number }> = []
    yield* readJournal(job.jobId, store, yield* Turn, ({ about, key, kind, ordinal, size }) => {
      if (!kinds.has(kind)) return
      const known = JSON.parse(about) as Keyed
      const told = kind === "input" ? telling.inputs.get(known.inputId ?? "") : telling.steps.get(key)
      rows.push({
        key,
        kind,
        state: stateOf(told, kind, size !== undefined, job.endedAt !== undefined),
        attempts: Math.max(known.attempt, told?.attempt ?? 1),
        ms: told?.ms,
        within: known.within,
        started_at: told?.at,
        note: kind === "delegate" ? [known.agent, known.jobId].filter(Boolean).join(" ") : (told?.note ?? ""),
        order: told?.order ?? -1,
        ordinal
      })
    })
    // Those whose beginning is no longer retained are older.
    return rows
      .sort((a, b) => a.order - b.order || a.ordinal - b.ordinal)
      .map(({ order: _, ordinal: __, ...row }) => row)
  })

/** Rows with their inner ones after them, and how deep each is. */
const nested = (rows: ReadonlyArray<StepRow>): ReadonlyArray<readonly [StepRow, depth: number]> => {
  const inside = new Map<string | undefined, Array<StepRow>>()
  const keys = new Set(rows.map(({ key }) => key))
  for (const row of rows) {
    const above = row.within !== undefined && keys.has(row.within) ? row.within : undefined
    const those = inside.get(above) ?? []
    those.push(row)
    inside.set(above, those)
  }
  const all: Array<readonly [StepRow, number]> = []
  // A stack, and not a recursion, whatever the depth.
  const next: Array<readonly [StepRow, number]> = []
  const add = (above: string | undefined, depth: number) => {
    for (const row of (inside.get(above) ?? []).reverse()) next.push([row, depth])
  }
  add(undefined, 0)
  for (let found = next.pop(); found !== undefined; found = next.pop()) {
    all.push(found)
    add(found[0].key, found[1] + 1)
  }
  return all
}

/** A table no wider than `columns`: notes give way first, then keys. */
export const table = (rows: ReadonlyArray<StepRow>, columns: number): ReadonlyArray<string> => {
  const cells = [
    ["KEY", "KIND", "STATE", "TRIES", "TOOK", "NOTE"],
    ...nested(rows).map(([row, depth]) =>
      [
        `${"  ".repeat(depth)}${row.key}`,
        row.kind,
        row.state,
        String(row.attempts),
        row.ms === undefined ? "" : took(row.ms),
        row.note
      ].map(inLine)
    )
  ]
  const width = (i: number, most: number) => Math.min(most, widest(cells, i))
  const rest = [1, 2, 3, 4].map((i) => width(i, i === 2 ? 24 : 12))
  const taken = rest.reduce((sum, each) => sum + each + 2, 0)
  const first = width(0, Math.max(8, columns - taken))
  return cells.map((row) =>
    cut(
      [
        padded(cut(row[0] ?? "", first), first),
        ...rest.map((each, i) => padded(cut(row[i + 1] ?? "", each), each)),
        row[5] ?? ""
      ].join("  "),
      columns
    ).trimEnd()
  )
}
