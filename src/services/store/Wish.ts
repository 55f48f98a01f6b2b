/** What a node wants of another, as it is stored until it is done. */

/**
 * Something that is to be done with a job by the node that has it, whichever that is when it looks. Whoever wants it stores it,
 * and drops it; whoever has the job says in it what came of it.
 */
export interface Wish {
  readonly id: string
  readonly jobId: string
  /** What is to be done; what that needs is in `body`, as JSON text. */
  readonly kind: string
  readonly body: string
  /** The node that wants it. */
  readonly from: string
  /** Epoch ms by the clock of that node. */
  readonly at: number
  /** JSON text; absent until it has been done, or refused. */
  readonly answer?: string | undefined
}

/** A wish, and what has become of its job. */
export interface PlacedWish extends Wish {
  /** `undefined` when there is no such job. The empty name is that of no node. */
  readonly job: { readonly node: string; readonly ended: boolean } | undefined
}
