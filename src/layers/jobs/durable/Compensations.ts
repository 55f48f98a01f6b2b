/**
 * What undoes the steps of a durable job, as far as its handler has told in this process; which are due, the journal says. A step
 * that is done here and has no outcome in the journal is due, too: what it has done is done, also while its outcome waits for
 * its place in the log, or when that is refused. The next process cannot undo such a step, and knows of it only from the record.
 */
import * as Effect from "effect/Effect"
import type { Step } from "../../../services/jobs/Job.js"
import { Signal } from "../../../services/runtime/Signal.js"
import type { Journal, Known } from "./Journal.js"

const prefix = "compensate:"

/** The compensations of one job. */
export class Compensations {
  private readonly undo = new Map<string, Effect.Effect<unknown, unknown, Step>>()
  /** Given for each that the handler has told. Waited for by one fiber. */
  readonly added = new Signal()
  /** Steps that are due and that the handler has to say how to undo. */
  private missing: Set<string> | undefined

  constructor(
    private readonly journal: Journal,
    /** Steps that were done in an earlier process, and had no outcome in the journal when how their job ends was stored. */
    private readonly lost: ReadonlyArray<string> = []
  ) {}

  /** Tells whether a key is that of a compensation. */
  static isKey(key: string): boolean {
    return key.startsWith(prefix)
  }
  /** Returns the key of the step that undoes another. */
  static keyOf({ key }: Pick<Known, "key">): string {
    return `${prefix}${key}`
  }

  /** Says what undoes a step that has succeeded. */
  add(key: string, undo: Effect.Effect<unknown, unknown, Step>): void {
    this.undo.set(key, undo)
    this.missing?.delete(key)
    this.added.give()
  }
  of({ key }: Pick<Known, "key">): Effect.Effect<unknown, unknown, Step> | undefined {
    return this.undo.get(key)
  }

  /** Steps that have succeeded and can be undone, the newest first: those without an outcome in the journal came last. */
  private get done(): ReadonlyArray<Known> {
    const withoutOutcome = [...this.undo.keys()].flatMap((key) => {
      const known = this.journal.step(key)
      return known !== undefined && known.size === undefined ? [known] : []
    })
    return [...withoutOutcome.reverse(), ...this.journal.compensable]
  }
  /** Steps that are to be undone and have not been tried to an outcome, the newest first. */
  get due(): ReadonlyArray<Known> {
    return this.done.filter((known) => this.journal.step(Compensations.keyOf(known))?.size === undefined)
  }
  /** Keys of steps that have not been undone. */
  get left(): ReadonlyArray<string> {
    const keys = new Set([...this.lost, ...this.done.map(({ key }) => key)])
    return [...keys].filter((key) => {
      const undone = this.journal.step(Compensations.keyOf({ key }))
      return undone?.size === undefined || undone.about.failed === true
    })
  }
  /** Keys of those that the next process does not find in the journal. */
  get unstored(): ReadonlyArray<string> {
    return this.left.filter((key) => this.journal.step(key)?.size === undefined)
  }
  /** Tells whether all that are due can be run. */
  get areKnown(): boolean {
    // Found once: a step that comes to something later tells at the same time what undoes it.
    this.missing ??= new Set(this.due.flatMap(({ key }) => (this.undo.has(key) ? [] : key)))
    return this.missing.size === 0
  }
  /** Returns when all that are due can be run. */
  get known(): Effect.Effect<void> {
    return Effect.suspend(() =>
      this.areKnown
        ? Effect.void
        : Effect.zipRight(
            this.added.wait,
            Effect.suspend(() => this.known)
          )
    )
  }
}
