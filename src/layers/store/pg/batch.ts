/**
 * Turns a batch of operations into few statements. What is put is collected, the later one winning; an operation that removes
 * or trims goes into the same statement when nothing that it could touch is in that one, which is nearly always, and else
 * begins the next, so the order of the batch is kept where it matters.
 *
 * Pure: what a batch changes in the writer's state is handed back and adopted only after its commit.
 */
import * as Arr from "effect/Array"
import { dueAt } from "../../../services/store/dueAt.js"
import { absent, epochOf, first as firstEpoch } from "../../../services/store/epoch.js"
import { movedOf } from "../../../services/store/moved.js"
import type {
  Batch,
  JobRecord,
  JournalEntry,
  Op,
  Owner,
  Run,
  SessionRecord,
  StoredEvent
} from "../../../services/store/Store.js"
import { Misuse } from "../plan.js"
import type { PartValues } from "./parts.js"
import { toStored } from "./text.js"
import { valuesOf } from "./values.js"

/** Where a job's log is: its surrogate key, and its newest event. */
export interface JobEnd {
  readonly id: number
  readonly last: number
  /** With which it was written to: of one that another writer has had meanwhile this is not known any more. */
  readonly epoch: number
}

/** What the one writer knows without asking the database. */
export interface PgWriterState {
  /** The name of its node; empty when it is the only one. */
  readonly node: string
  /** Logs of live jobs; loaded on first use, forgotten when the job ends or is not in memory any more. */
  readonly logs: Map<string, JobEnd>
  /** Where blocks of keys begin that no job has yet, and how many keys of them were given out. */
  blocks: ReadonlyArray<number>
  taken: number
}

/** Keys of a block: as many as the sequence goes on by. */
export const blockSize = 1024

/**
 * Ids of the jobs of which a batch needs to know where their logs are. What is stated not to be there yet has none: a commit that
 * opens a job asks nothing.
 */
export const jobsOf = ({ ops, owners }: Batch): ReadonlySet<string> => {
  const ids = new Set<string>()
  for (const op of ops) {
    if (op._tag === "Append" || op._tag === "PutInput" || op._tag === "PutJournal") ids.add(op.jobId)
    else if (op._tag === "PutJob") ids.add(op.job.jobId)
  }
  for (const owner of owners) if ("job" in owner && owner.epoch === absent) ids.delete(owner.job)
  return ids
}

/** Returns the epochs with which a batch states to have jobs that are there. */
export const epochsOf = ({ owners }: Batch): ReadonlyMap<string, number> => {
  const epochs = new Map<string, number>()
  for (const owner of owners) if ("job" in owner && owner.epoch !== absent) epochs.set(owner.job, owner.epoch)
  return epochs
}

/** Returns how many keys a batch needs at the most: a job that is dropped and put again gets another. */
export const keysOf = ({ ops }: Batch): number => {
  let keys = 0
  for (const op of ops) if (op._tag === "PutJob") keys += 2
  return keys
}

/** What a batch writes, and what the writer knows once it is committed. */
export interface StatementPlan {
  /** Of each statement, in order. */
  readonly statements: ReadonlyArray<PartValues>
  readonly adopt: () => void
}

/** What one statement is made of. */
class Gathered {
  readonly jobs = new Map<string, readonly [id: number, job: JobRecord]>()
  readonly sessions = new Map<string, SessionRecord>()
  readonly taken = new Map<string, ReadonlyArray<unknown>>()
  readonly moved = new Map<string, ReadonlyArray<unknown>>()
  readonly needs = new Map<string, number>()
  readonly events: Array<readonly [job: number, events: ReadonlyArray<StoredEvent>]> = []
  readonly runs = new Map<string, readonly [sessionId: string, run: Run]>()
  readonly observers = new Map<string, ReadonlyArray<unknown>>()
  readonly inputs = new Map<number, string>()
  readonly journal = new Map<string, readonly [job: number, entry: JournalEntry]>()
  readonly hookEvents = new Map<string, ReadonlyArray<unknown>>()
  readonly wishes = new Map<string, ReadonlyArray<unknown>>()
  alive: number | undefined
  forgottenLives: number | undefined
  /** Something is removed that sessions may lose by. */
  loses = false
  readonly lostSessions = new Set<string>()
  readonly unobserved = new Map<string, ReadonlyArray<string>>()
  readonly droppedHookEvents = new Map<string, ReadonlyArray<unknown>>()
  readonly answeredWishes = new Map<string, string>()
  readonly droppedWishes = new Set<string>()
  readonly droppedSessions = new Set<string>()
  readonly droppedJobs = new Set<string>()
  readonly trimmedSessions = new Map<string, number>()
  readonly trimmedJobs = new Map<string, number>()
  /** Jobs and sessions of which something is put, and of which something is removed. */
  readonly put = new Set<string>()
  readonly removed = new Set<string>()

  get isEmpty(): boolean {
    const { alive, forgottenLives, put, removed } = this
    return put.size === 0 && removed.size === 0 && alive === undefined && forgottenLives === undefined
  }

  /** Returns the parameters of the parts that have some; `absent` are sessions that are stated not to be there. */
  values(absent: ReadonlySet<string>, node: string): PartValues {
    const values: PartValues = {}
    if (this.jobs.size > 0) values.jobs = valuesOf.jobs([...this.jobs.values()])
    const sessions = Array.from(
      this.sessions.values(),
      (session) => [session, this.needs.get(session.sessionId)] as const
    )
    const [known, opened] = Arr.partition(sessions, ([{ sessionId }]) => absent.has(sessionId))
    if (known.length > 0) values.sessions = valuesOf.sessions(known)
    if (opened.length > 0) values.opened = valuesOf.sessions(opened)
    if (this.taken.size > 0) values.taken = valuesOf.rows(4, this.taken.values())
    if (this.moved.size > 0) values.moved = valuesOf.rows(4, this.moved.values())
    const needs = [...this.needs].filter(([sessionId]) => !this.sessions.has(sessionId))
    if (needs.length > 0) values.needs = valuesOf.rows(2, needs)
    if (this.events.length > 0) values.events = valuesOf.events(this.events)
    if (this.runs.size > 0) values.runs = valuesOf.runs([...this.runs.values()])
    if (this.observers.size > 0) values.observers = valuesOf.rows(3, this.observers.values())
    if (this.inputs.size > 0) values.inputs = valuesOf.rows(2, this.inputs)
    if (this.journal.size > 0) values.journal = valuesOf.journal([...this.journal.values()])
    if (this.hookEvents.size > 0) values.hookEvents = valuesOf.rows(3, this.hookEvents.values())
    if (this.wishes.size > 0) values.wishes = valuesOf.rows(7, this.wishes.values())
    if (this.alive !== undefined) values.alive = [toStored(node), this.alive]
    if (this.forgottenLives !== undefined) values.forgottenLives = [this.forgottenLives]
    if (this.lostSessions.size > 0) values.lostSessions = [[...this.lostSessions]]
    if (this.unobserved.size > 0) values.unobserved = valuesOf.rows(2, this.unobserved.values())
    if (this.droppedHookEvents.size > 0)
      values.droppedHookEvents = valuesOf.rows(2, this.droppedHookEvents.values())
    if (this.answeredWishes.size > 0) values.answeredWishes = valuesOf.rows(2, this.answeredWishes)
    if (this.droppedWishes.size > 0) values.droppedWishes = [[...this.droppedWishes]]
    if (this.droppedSessions.size > 0) values.droppedSessions = [[...this.droppedSessions]]
    if (this.droppedJobs.size > 0) values.droppedJobs = [[...this.droppedJobs]]
    if (this.trimmedSessions.size > 0) values.trimmedSessions = valuesOf.rows(2, this.trimmedSessions)
    if (this.trimmedJobs.size > 0) values.trimmedJobs = valuesOf.rows(2, this.trimmedJobs)
    return values
  }
}

/** Returns members as they are added to the text of a record. */
const added = (members: object): string => `,${JSON.stringify(members).slice(1, -1)}`

const pair = (a: string, b: string | number) => `${a}\n${b}`

/** The statements of one batch as it is gone through, and where that leaves the logs. */
class StatementPlanner {
  readonly statements: Array<PartValues> = []
  private collected = new Gathered()
  private taken: number
  /** Logs this batch changed; `undefined` when it dropped the job. */
  private readonly changed = new Map<string, JobEnd | undefined>()

  /** Sessions that are stated not to be there yet, and were not put so far. */
  private readonly absent = new Set<string>()

  constructor(
    owners: ReadonlyArray<Owner>,
    private readonly state: PgWriterState,
    private readonly loaded: ReadonlyMap<string, JobEnd>
  ) {
    this.taken = state.taken
    for (const owner of owners)
      if ("session" in owner && owner.epoch === absent) this.absent.add(owner.session)
  }

  /** Gives the jobs of the batch that have none their keys: what leads to one may come before its record. */
  begin(batch: ReadonlyArray<Op>): void {
    for (const op of batch) if (op._tag === "PutJob") this.keyOf(op.job.jobId)
  }

  /** Returns what the next operation, which puts something of these, is collected in. */
  private putting(...touched: ReadonlyArray<string>): Gathered {
    if (touched.some((each) => this.collected.removed.has(each))) this.write()
    for (const each of touched) this.collected.put.add(each)
    return this.collected
  }

  /** Returns what the next operation, which removes something of these, is collected in. */
  private removing(...touched: ReadonlyArray<string>): Gathered {
    const { put, removed } = this.collected
    if (touched.some((each) => put.has(each) || removed.has(each))) this.write()
    for (const each of touched) this.collected.removed.add(each)
    return this.collected
  }

  /** The same of what may set that any session has lost events: no row of one may be put, or dropped, by the same statement. */
  private losing(touched: string): Gathered {
    const { droppedSessions, needs, sessions, taken, unobserved } = this.collected
    // Nor does a session lose by what it has left before: all parts of a statement see who observed when it began.
    if ([droppedSessions, needs, sessions, taken, unobserved].some(({ size }) => size > 0)) this.write()
    const collected = this.removing(touched)
    collected.loses = true
    return collected
  }

  /** Takes up the next operation of the batch. */
  add(op: Op): void {
    switch (op._tag) {
      case "Append":
        this.append(op.jobId, op.events)
        return
      case "PutRun":
        this.putting(op.sessionId, op.run.jobId).runs.set(pair(op.sessionId, op.run.eventSeq), [
          op.sessionId,
          op.run
        ])
        return
      case "PutJob": {
        if (this.collected.moved.has(op.job.jobId)) this.write()
        const log = this.keyOf(op.job.jobId)
        this.putting(op.job.jobId).jobs.set(op.job.jobId, [log.id, op.job])
        const epoch = epochOf(op.job)
        if (log.epoch !== epoch) this.changed.set(op.job.jobId, { ...log, epoch })
        return
      }
      case "MoveJob": {
        const { epoch, jobId, node } = op
        if (this.collected.put.has(jobId)) this.write()
        this.putting(jobId).moved.set(jobId, [jobId, epoch, toStored(node), added(movedOf(op))])
        // Whether it has ended is not known here.
        this.changed.set(jobId, undefined)
        return
      }
      case "TakeSession": {
        const { epoch, node, sessionId } = op
        // No row is written twice by one statement.
        if (this.collected.put.has(sessionId) || this.collected.loses) this.write()
        this.putting(sessionId).taken.set(sessionId, [
          sessionId,
          epoch,
          toStored(node),
          added({ node, epoch })
        ])
        return
      }
      case "PutSession":
        if (this.collected.loses || this.collected.taken.has(op.session.sessionId)) this.write()
        this.putting(op.session.sessionId).sessions.set(op.session.sessionId, op.session)
        return
      case "Need":
        if (this.collected.loses || this.collected.taken.has(op.sessionId)) this.write()
        this.putting(op.sessionId).needs.set(op.sessionId, op.eventSeq)
        return
      case "PutInput":
        this.putting(op.jobId).inputs.set(this.logOf(op.jobId, "the input was put").id, op.input)
        return
      case "PutJournal":
        this.putJournal(op.jobId, op.entries)
        return
      case "PutHookEvent": {
        const { jobId, seq, text } = op.event
        this.putting(pair(jobId, seq)).hookEvents.set(pair(jobId, seq), [jobId, seq, text])
        return
      }
      case "Observe": {
        const observed = pair(op.sessionId, op.jobId)
        this.putting(op.sessionId, op.jobId, observed).observers.set(observed, [
          op.sessionId,
          op.jobId,
          op.cursor
        ])
        return
      }
      case "PutWish": {
        const { answer = null, at, body, from, id, jobId, kind } = op.wish
        this.putting(id).wishes.set(id, [id, jobId, kind, body, toStored(from), at, answer])
        return
      }
      case "Alive":
        this.collected.alive = op.at
        return
      case "ForgetLives":
        this.collected.forgottenLives = op.before
        return
      default:
        this.remove(op)
    }
  }

  private remove(
    op: Extract<
      Op,
      {
        _tag:
          | "DropSession"
          | "DropJob"
          | "TrimSession"
          | "TrimJob"
          | "Unobserve"
          | "Lose"
          | "DropHookEvents"
          | "AnswerWish"
          | "DropWishes"
      }
    >
  ): void {
    switch (op._tag) {
      case "DropSession":
        if (this.collected.loses) this.write()
        this.removing(op.sessionId).droppedSessions.add(op.sessionId)
        return
      case "DropJob":
        this.losing(op.jobId).droppedJobs.add(op.jobId)
        this.changed.set(op.jobId, undefined)
        return
      case "Lose":
        this.losing(op.sessionId).lostSessions.add(op.sessionId)
        return
      case "TrimSession":
        this.removing(op.sessionId).trimmedSessions.set(op.sessionId, op.eventSeq)
        return
      case "TrimJob":
        this.losing(op.jobId).trimmedJobs.set(op.jobId, op.seq)
        return
      case "Unobserve": {
        // That alone touches no other row of the job or of the session.
        const observed = pair(op.sessionId, op.jobId)
        this.removing(observed).unobserved.set(observed, [op.sessionId, op.jobId])
        return
      }
      case "AnswerWish":
        this.removing(op.id).answeredWishes.set(op.id, op.answer)
        return
      case "DropWishes": {
        const { droppedWishes } = this.removing(...op.ids)
        for (const id of op.ids) droppedWishes.add(id)
        return
      }
      case "DropHookEvents": {
        const keys = op.events.map(({ jobId, seq }) => pair(jobId, seq))
        const { droppedHookEvents } = this.removing(...keys)
        for (const { jobId, seq } of op.events) droppedHookEvents.set(pair(jobId, seq), [jobId, seq])
        return
      }
    }
  }

  /** Ends the statement that is collected, if there is something in it. */
  write(): void {
    if (this.collected.isEmpty) return
    this.statements.push(this.collected.values(this.absent, this.state.node))
    for (const sessionId of this.collected.sessions.keys()) this.absent.delete(sessionId)
    this.collected = new Gathered()
  }

  /** Brings the writer's state to where this batch leaves it. */
  adopt(): void {
    const { logs } = this.state
    const full = Math.floor(this.taken / blockSize)
    this.state.blocks = this.state.blocks.slice(full)
    this.state.taken = this.taken - full * blockSize
    for (const [jobId, log] of this.loaded) logs.set(jobId, log)
    for (const [jobId, log] of this.changed) {
      if (log === undefined) logs.delete(jobId)
      else logs.set(jobId, log)
    }
  }

  private knownLog(jobId: string): JobEnd | undefined {
    return this.changed.has(jobId)
      ? this.changed.get(jobId)
      : (this.loaded.get(jobId) ?? this.state.logs.get(jobId))
  }

  private logOf(jobId: string, done: string): JobEnd {
    const log = this.knownLog(jobId)
    if (log === undefined) throw new Misuse(`${done} of ${jobId}, of which there is no job record`)
    return log
  }

  private keyOf(jobId: string): JobEnd {
    const log = this.knownLog(jobId)
    if (log !== undefined) return log
    const block = this.state.blocks[Math.floor(this.taken / blockSize)]
    if (block === undefined) throw new Error("no keys were left for the jobs of a batch")
    const id = block + (this.taken++ % blockSize)
    const first = { id, last: 0, epoch: firstEpoch }
    this.changed.set(jobId, first)
    return first
  }

  private putJournal(jobId: string, entries: ReadonlyArray<JournalEntry>): void {
    const { id } = this.logOf(jobId, "a journal was put")
    const { journal } = this.putting(jobId)
    for (const entry of entries) journal.set(`${id}\n${entry.kind}\n${entry.key}`, [id, entry])
  }

  private append(jobId: string, events: ReadonlyArray<StoredEvent>): void {
    const { epoch, id, last } = this.logOf(jobId, "events were appended")
    for (const [i, { seq }] of events.entries())
      if (seq !== last + 1 + i)
        throw new Misuse(`event ${seq} of ${jobId} was appended where ${last + 1 + i} follows`)
    this.putting(jobId).events.push([id, events])
    this.changed.set(jobId, { id, last: last + events.length, epoch })
  }
}

/**
 * Plans a batch: returns what its statements write; throws a {@link Misuse} when it cannot be written.
 *
 * @param loaded logs the batch needs that are in the database but not in `state`
 */
export const plan = (
  { ops, owners }: Batch,
  state: PgWriterState,
  loaded: ReadonlyMap<string, JobEnd>
): StatementPlan => {
  const planner = new StatementPlanner(owners, state, loaded)
  planner.begin(ops)
  for (const op of ops) planner.add(op)
  planner.write()
  const adopt = (): void => {
    planner.adopt()
    for (const op of ops)
      if (op._tag === "PutJob" && (op.job.endedAt !== undefined || dueAt(op.job) !== undefined))
        state.logs.delete(op.job.jobId)
  }
  return { statements: planner.statements, adopt }
}
