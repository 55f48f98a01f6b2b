/**
 * Turns a batch of operations into few SQL statements. Operations of one kind are collected, the later
 * one winning, and written as one multi-row insert per table; an operation that deletes or trims first
 * writes what was collected before it, so the order of the batch is kept where it matters.
 *
 * Pure: what a batch changes in the writer's state is handed back and adopted only after its commit.
 */
import { byteLength } from "../../protocol/Utf8.js"
import { dueAt } from "../../services/store/dueAt.js"
import { absent, epochOf } from "../../services/store/epoch.js"
import { eventOverhead } from "../../services/store/eventOverhead.js"
import { movedOf } from "../../services/store/moved.js"
import type {
  FreeKey,
  JobRecord,
  JournalEntry,
  Owner,
  Run,
  SessionRecord
} from "../../services/store/Store.js"
import { isFull } from "./marks.js"
import type { PackedBatch, PackedOp, Stretch } from "./packing.js"
import * as statements from "./statements.js"

/** `seq` … `seq` + count - 1 of a job are the rows `row` … `row` + count - 1 of `events`. */
interface Extent {
  readonly seq: number
  readonly count: number
  readonly row: number
  /** Of payload and overhead. */
  readonly bytes: number
}

/** Where a job's log is: its surrogate key, and the extent it ends in. */
export interface LogEnd {
  readonly id: number
  /** Of the job. */
  readonly epoch: number
  readonly last: Extent | undefined
}

/** What the one writer knows without asking the database. */
export interface WriterState {
  nextRow: number
  nextJob: number
  /** Logs of live jobs; loaded on first use, forgotten when the job ends or is not in memory any more. */
  readonly logs: Map<string, LogEnd>
  /** The epochs of sessions; loaded on first use, forgotten when the session ends. */
  readonly epochs: Map<string, number>
}

/** What a batch needs that the writer does not know yet, as the database has it; what is not stored is left out. */
export interface Loaded {
  readonly logs: ReadonlyMap<string, LogEnd>
  readonly epochs: ReadonlyMap<string, number>
  /** Those of the keys that the batch states to be free which are not. */
  readonly used?: ReadonlySet<FreeKey> | undefined
}

/** Ids of jobs whose log the batch needs. */
export const jobsOf = ({ ops, owners }: PackedBatch): ReadonlySet<string> => {
  const ids = new Set<string>()
  for (const owner of owners) if ("job" in owner) ids.add(owner.job)
  for (const op of ops) {
    if (op._tag === "Append" || op._tag === "PutInput" || op._tag === "PutJournal") ids.add(op.jobId)
    else if (op._tag === "PutJob") ids.add(op.job.jobId)
  }
  return ids
}

/** Ids of sessions whose epoch the batch needs. */
export const sessionsOf = ({ owners }: PackedBatch): ReadonlyArray<string> =>
  owners.flatMap((owner) => ("session" in owner ? [owner.session] : []))

/** Returns those owners of a batch that are stored with another epoch, or are not. */
export const takenOf = (
  { owners }: PackedBatch,
  state: Pick<WriterState, "logs" | "epochs">,
  loaded: Loaded
): ReadonlyArray<Owner> =>
  owners.filter((owner) => {
    if ("key" in owner) return loaded.used?.has(owner) === true
    const stored =
      "job" in owner
        ? (state.logs.get(owner.job) ?? loaded.logs.get(owner.job))?.epoch
        : (state.epochs.get(owner.session) ?? loaded.epochs.get(owner.session))
    return (stored ?? absent) !== owner.epoch
  })

/** Why a batch is not written: somebody else has taken what it states to own. */
export class Taken extends Error {
  constructor(readonly owners: ReadonlyArray<Owner>) {
    super("somebody else has taken what is to be written")
  }
}

/** Why a batch cannot be written: a mistake of the caller. */
export class Misuse extends Error {}

/** The statements of a batch, and what the writer knows once they are committed. */
export interface Plan {
  readonly statements: ReadonlyArray<statements.Statement>
  /** Brings the writer's state up to date; to be called once the statements are committed. */
  readonly adopt: () => void
}

/** What a batch puts, by table: of what is put twice the later one. */
class Collected {
  readonly jobs = new Map<string, JobRecord>()
  /** By session and job the cursor. */
  readonly observers = new Map<string, number>()
  /** What is observed no more, or anew: the same. */
  readonly unobserved = new Set<string>()
  readonly sessions = new Map<string, SessionRecord>()
  readonly needs = new Map<string, number>()
  readonly inputs = new Map<string, string>()
  /** By job, and then by kind and key. */
  readonly journals = new Map<string, Map<string, JournalEntry>>()
  /** Job, `seq` and text of each, in a row. */
  readonly hookEvents: Array<unknown> = []
  readonly runs = new Map<string, Array<Run>>()
  readonly events = new Map<string, Array<Stretch>>()

  addRun(sessionId: string, run: Run): void {
    const list = this.runs.get(sessionId)
    if (list === undefined) this.runs.set(sessionId, [run])
    else if (list[list.length - 1]?.eventSeq === run.eventSeq) list[list.length - 1] = run
    else list.push(run)
  }

  addJournal(jobId: string, entries: ReadonlyArray<JournalEntry>): void {
    const journal = this.journals.get(jobId) ?? new Map<string, JournalEntry>()
    this.journals.set(jobId, journal)
    for (const entry of entries) journal.set(`${entry.kind}\n${entry.key}`, entry)
  }

  addEvents(jobId: string, stretches: ReadonlyArray<Stretch>): void {
    const before = this.events.get(jobId)
    if (before === undefined) this.events.set(jobId, [...stretches])
    else before.push(...stretches)
  }
}

/** The statements of one batch as it is gone through, and where that leaves the logs. */
class Planner {
  readonly statements: Array<statements.Statement> = []
  private collected = new Collected()
  private nextJob: number
  private nextRow: number
  /** Logs this batch changed; `undefined` when it dropped the job. */
  private readonly changed = new Map<string, LogEnd | undefined>()
  /** Epochs of sessions that this batch put; `undefined` when it dropped the session. */
  private readonly epochs = new Map<string, number | undefined>()

  constructor(
    private readonly state: WriterState,
    private readonly loaded: Loaded
  ) {
    this.nextJob = state.nextJob
    this.nextRow = state.nextRow
  }

  /** Takes up the next operation of the batch. */
  add(op: PackedOp): void {
    switch (op._tag) {
      case "Append":
        this.collected.addEvents(op.jobId, op.stretches)
        return
      case "PutRun":
        this.collected.addRun(op.sessionId, op.run)
        return
      case "PutJob":
        this.collected.jobs.set(op.job.jobId, op.job)
        return
      case "PutSession":
        this.collected.sessions.set(op.session.sessionId, op.session)
        return
      case "Need":
        this.collected.needs.set(op.sessionId, op.eventSeq)
        return
      case "PutInput":
        this.collected.inputs.set(op.jobId, op.input)
        return
      case "PutJournal":
        this.collected.addJournal(op.jobId, op.entries)
        return
      case "PutHookEvent":
        this.collected.hookEvents.push(op.event.jobId, op.event.seq, op.event.text)
        return
      case "DropHookEvents":
        statements.putHookEvents(this.collected.hookEvents.splice(0), this.statements)
        this.statements.push(statements.dropHookEvents(op.events))
        return
      case "PutWish":
        this.statements.push(statements.putWish(op.wish))
        return
      case "AnswerWish":
        this.statements.push(statements.answerWish(op.id, op.answer))
        return
      case "DropWishes":
        this.statements.push(statements.dropWishes(op.ids))
        return
      case "Observe":
        this.collected.observers.set(`${op.sessionId}\n${op.jobId}`, op.cursor)
        return
      case "Unobserve":
        this.collected.observers.delete(`${op.sessionId}\n${op.jobId}`)
        this.collected.unobserved.add(`${op.sessionId}\n${op.jobId}`)
        return
      case "TakeSession":
        this.write()
        this.statements.push(statements.takeSession(op))
        this.epochs.set(op.sessionId, op.epoch)
        return
      case "MoveJob":
        this.write()
        this.statements.push(statements.moveJob(op.jobId, op.epoch, movedOf(op)))
        // Whether it has ended is not known here.
        this.changed.set(op.jobId, undefined)
        return
      case "Lose":
        this.write()
        this.statements.push(statements.lose(op.sessionId))
        return
      case "Alive":
        this.statements.push(statements.putAlive(op.at))
        return
      // Of a file there is the life of one runtime only.
      case "ForgetLives":
        return
      default:
        this.write()
        this.remove(op)
    }
  }

  private remove(
    op: Extract<PackedOp, { _tag: "DropSession" | "DropJob" | "TrimSession" | "TrimJob" }>
  ): void {
    switch (op._tag) {
      case "DropSession":
        this.statements.push(...statements.dropSession(op.sessionId))
        this.epochs.set(op.sessionId, undefined)
        return
      case "DropJob":
        this.statements.push(...statements.dropJob(op.jobId))
        this.changed.set(op.jobId, undefined)
        return
      case "TrimSession":
        this.statements.push(statements.trimSession(op.sessionId, op.eventSeq))
        return
      case "TrimJob":
        this.statements.push(...statements.trimJob(op.jobId, op.seq))
        return
    }
  }

  /** Writes what was collected so far. */
  write(): void {
    const { events, hookEvents, inputs, jobs, journals, needs, observers, runs, sessions, unobserved } =
      this.collected
    this.collected = new Collected()
    this.writeJobs(jobs.values())
    this.writeObservers(observers, unobserved)
    statements.putHookEvents(hookEvents, this.statements)
    this.writeSessions(sessions.values(), needs)
    this.writeRuns(runs)
    this.writeInputs(inputs)
    this.writeJournals(journals)
    this.writeEvents(events)
  }

  /** Brings the writer's state to where this batch leaves it. */
  adopt(): void {
    const { epochs, logs } = this.state
    this.state.nextRow = this.nextRow
    this.state.nextJob = this.nextJob
    for (const [jobId, log] of this.loaded.logs) logs.set(jobId, log)
    for (const [jobId, log] of this.changed) {
      if (log === undefined) logs.delete(jobId)
      else logs.set(jobId, log)
    }
    for (const [sessionId, epoch] of this.loaded.epochs) epochs.set(sessionId, epoch)
    for (const [sessionId, epoch] of this.epochs) {
      if (epoch === undefined) epochs.delete(sessionId)
      else epochs.set(sessionId, epoch)
    }
  }

  private logOf(jobId: string): LogEnd | undefined {
    return this.changed.has(jobId)
      ? this.changed.get(jobId)
      : (this.state.logs.get(jobId) ?? this.loaded.logs.get(jobId))
  }

  private writeJobs(jobs: Iterable<JobRecord>): void {
    const rows: Array<unknown> = []
    for (const job of jobs) {
      let log = this.logOf(job.jobId)
      const epoch = epochOf(job)
      if (log?.epoch !== epoch) {
        log = { id: log?.id ?? this.nextJob++, epoch, last: log?.last }
        this.changed.set(job.jobId, log)
      }
      rows.push(...statements.jobRow(log.id, job))
    }
    statements.putJobs(rows, this.statements)
  }

  private writeSessions(sessions: Iterable<SessionRecord>, needs: ReadonlyMap<string, number>): void {
    const rows: Array<unknown> = []
    for (const session of sessions) {
      rows.push(...statements.sessionRow(session))
      this.epochs.set(session.sessionId, epochOf(session))
    }
    statements.putSessions(rows, this.statements)
    if (needs.size > 0) this.statements.push(statements.writeNeeds(needs))
  }

  private writeRuns(runs: ReadonlyMap<string, ReadonlyArray<Run>>): void {
    const rows: Array<unknown> = []
    for (const [sessionId, list] of runs)
      for (const run of list) rows.push(sessionId, run.eventSeq, run.jobId, run.jobSeq, run.count, run.bytes)
    statements.putRuns(rows, this.statements)
  }

  private writeObservers(observers: ReadonlyMap<string, number>, unobserved: ReadonlySet<string>): void {
    const rows: Array<unknown> = []
    for (const pair of unobserved) {
      const [sessionId = "", jobId = ""] = pair.split("\n")
      this.statements.push(statements.unobserve(sessionId, jobId))
    }
    for (const [pair, cursor] of observers) rows.push(...pair.split("\n"), cursor)
    statements.putObservers(rows, this.statements)
  }

  private writeInputs(inputs: ReadonlyMap<string, string>): void {
    const rows: Array<unknown> = []
    for (const [jobId, input] of inputs) {
      const log = this.logOf(jobId)
      if (log === undefined)
        throw new Misuse(`the input was put of ${jobId}, of which there is no job record`)
      rows.push(log.id, input)
    }
    statements.putInputs(rows, this.statements)
  }

  private writeJournals(journals: ReadonlyMap<string, ReadonlyMap<string, JournalEntry>>): void {
    const rows: Array<unknown> = []
    for (const [jobId, journal] of journals) {
      const log = this.logOf(jobId)
      if (log === undefined)
        throw new Misuse(`a journal was put of ${jobId}, of which there is no job record`)
      for (const { about, key, kind, ordinal, value = null } of journal.values())
        rows.push(log.id, kind, key, ordinal, about, value === null ? null : byteLength(value), value)
    }
    statements.putJournal(rows, this.statements)
  }

  private writeEvents(events: ReadonlyMap<string, ReadonlyArray<Stretch>>): void {
    const rows: Array<unknown> = []
    const extents: Array<unknown> = []
    for (const [jobId, stretches] of events) this.writeLog(jobId, stretches, rows, extents)
    statements.insertEvents(rows, this.statements)
    statements.putExtents(extents, this.statements)
  }

  /** Writes the rows of one job's events, and the extent that then leads to them. */
  private writeLog(
    jobId: string,
    stretches: ReadonlyArray<Stretch>,
    rows: Array<unknown>,
    extents: Array<unknown>
  ): void {
    const log = this.logOf(jobId)
    if (log === undefined)
      throw new Misuse(`events were appended to ${jobId}, of which there is no job record`)
    const first = log.last === undefined ? 1 : log.last.seq + log.last.count
    let seq = first
    let row = this.nextRow
    const goesOn = log.last !== undefined && log.last.row + log.last.count === row && !isFull(log.last)
    let extent = goesOn ? { ...log.last } : { seq, count: 0, row, bytes: 0 }
    const write = () => extents.push(log.id, extent.seq, extent.count, extent.row, extent.bytes)
    for (const { audience = null, kind, payloads, seq: from, type } of stretches) {
      if (from !== seq) throw new Misuse(`event ${from} of ${jobId} was appended where ${seq} follows`)
      for (const payload of payloads) {
        if (isFull(extent)) {
          write()
          extent = { seq, count: 0, row, bytes: 0 }
        }
        extent.count++
        extent.bytes += payload.length + eventOverhead
        rows.push(row++, log.id, seq++, type, kind, audience, payload)
      }
    }
    this.nextRow = row
    if (seq === first) return
    write()
    this.changed.set(jobId, { id: log.id, epoch: log.epoch, last: extent })
  }
}

/**
 * Plans a batch: returns its statements; throws {@link Taken} when it may not be written, and a {@link Misuse} when it cannot be.
 *
 * @param loaded what the batch needs that is in the database but not in `state`
 */
export const plan = (batch: PackedBatch, state: WriterState, loaded: Loaded): Plan => {
  const taken = takenOf(batch, state, loaded)
  if (taken.length > 0) throw new Taken(taken)
  const planner = new Planner(state, loaded)
  for (const op of batch.ops) planner.add(op)
  planner.write()
  const adopt = (): void => {
    planner.adopt()
    for (const op of batch.ops)
      if (op._tag === "PutJob" && (op.job.endedAt !== undefined || dueAt(op.job) !== undefined))
        state.logs.delete(op.job.jobId)
  }
  return { statements: planner.statements, adopt }
}
