/**
 * Which jobs are followed, although nobody looks at them any more: as many as there is room for, in jobs and in bytes. They are
 * held by families, a job that was looked at with what it has delegated to, and those that nobody has looked at for longest are let
 * go of. The family that is looked at stays, and no other makes one way that was looked at after it; where there is no room for more
 * of it, more of it is not held.
 */

/** A job that is held. */
export interface Holding {
  readonly jobId: string
  /** Bytes that it takes, roughly. */
  readonly bytes: number
}

/** What is held at the most. */
export interface Bounds {
  readonly jobs: number
  readonly bytes: number
}

export class Held<J extends Holding> {
  /** By their first job; the one that was looked at last is the last. */
  readonly #families = new Map<string, Map<string, J>>()
  /** The first job of the family of each job. */
  readonly #firstOf = new Map<string, string>()

  constructor(
    private readonly bounds: Bounds,
    private readonly letGo: (job: J) => void
  ) {}

  get size(): number {
    return this.#firstOf.size
  }

  get(jobId: string): J | undefined {
    return this.#familyOf(jobId)?.get(jobId)
  }

  *values(): Iterable<J> {
    for (const family of this.#families.values()) yield* family.values()
  }

  /** Notes that somebody looks at a job that is held. */
  look(jobId: string): void {
    const first = this.#firstOf.get(jobId)
    const family = first === undefined ? undefined : this.#families.get(first)
    if (first === undefined || family === undefined) return
    this.#families.delete(first)
    this.#families.set(first, family)
  }

  /** Holds a job that somebody looks at. */
  begin(job: J): void {
    this.#families.set(job.jobId, new Map([[job.jobId, job]]))
    this.#firstOf.set(job.jobId, job.jobId)
    this.#makeRoom(job.jobId, 0, 0)
  }

  /** Holds a job below another one; returns whether there is room for it. */
  add(job: J, above: string): boolean {
    const first = this.#firstOf.get(above)
    if (first === undefined || !this.#makeRoom(first, 1, 0)) return false
    this.#families.get(first)?.set(job.jobId, job)
    this.#firstOf.set(job.jobId, first)
    return true
  }

  /** Takes the family of a job into that of the job that is above it. */
  join(jobId: string, above: string): void {
    const from = this.#firstOf.get(jobId)
    const to = this.#firstOf.get(above)
    if (from === undefined || to === undefined || from === to) return
    for (const job of this.#families.get(from)?.values() ?? []) {
      this.#families.get(to)?.set(job.jobId, job)
      this.#firstOf.set(job.jobId, to)
    }
    const newest = [...this.#families.keys()].at(-1)
    this.#families.delete(from)
    if (newest === from) this.look(above)
  }

  /** Says whether a job is of the family that is looked at. */
  isLookedAt(jobId: string): boolean {
    const first = this.#firstOf.get(jobId)
    return first !== undefined && first === [...this.#families.keys()].at(-1)
  }

  /** Makes room for more bytes of a job; returns whether there is any. */
  grow(jobId: string, bytes: number): boolean {
    const first = this.#firstOf.get(jobId)
    return first !== undefined && this.#makeRoom(first, 0, bytes)
  }

  #familyOf(jobId: string): Map<string, J> | undefined {
    const first = this.#firstOf.get(jobId)
    return first === undefined ? undefined : this.#families.get(first)
  }

  #fits(jobs: number, bytes: number): boolean {
    let held = bytes
    for (const job of this.values()) held += job.bytes
    return this.size + jobs <= this.bounds.jobs && held <= this.bounds.bytes
  }

  /** Lets go of the families that were looked at before this one, the oldest first, until there is room. */
  #makeRoom(first: string, jobs: number, bytes: number): boolean {
    for (const [oldest, family] of [...this.#families]) {
      if (oldest === first || this.#fits(jobs, bytes)) break
      this.#families.delete(oldest)
      for (const job of family.values()) {
        this.#firstOf.delete(job.jobId)
        this.letGo(job)
      }
    }
    return this.#fits(jobs, bytes)
  }
}
