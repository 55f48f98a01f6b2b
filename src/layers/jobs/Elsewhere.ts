/**
 * What principals have on other nodes, for caps that hold for all nodes together. What a principal has here is known exactly; of the
 * others this node knows what it has read last. It reads once a second of whoever submits (of who has thousands seldomer), and before
 * that where more depends on it: nobody is refused, and no more than an eighth of what was left is taken, on what was read before.
 *
 * So of many jobs that fit few wait for a read, and what all nodes together can go over a cap by is what each takes in the time of a
 * read, and before what it has taken is stored.
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import type * as Scope from "effect/Scope"
import type { ClusterService } from "../../services/cluster/Cluster.js"
import { Signal } from "../../services/runtime/Signal.js"
import { noJobs, type OpenJobs, StoreError, type StoreService } from "../../services/store/Store.js"

/** How old what is known of a principal gets that submits. */
const freshFor = Duration.seconds(1)

/** Jobs that are counted for each second that what was counted may get older: counting thousands takes its time. */
const countedPerSecond = 1_000

/** The oldest that it gets, in seconds. */
const oldest = 10

/** The share of what was left under a cap that is taken on what was read. */
const takenUnread = 1 / 8

/** What is known of a principal. */
interface Known {
  readonly there: OpenJobs
  /** The fewest that it has had here since it was read. */
  readonly here: { -readonly [What in keyof OpenJobs]?: number }
  /** Somebody has asked since. */
  isUsed: boolean
  /** Renewals that pass it over. */
  rests: number
}

/** A cap of a principal, and what it has under that here. */
export interface Asked {
  readonly principal: string
  readonly what: keyof OpenJobs
  readonly own: number
  readonly max: number
}

/** Tells whether there is room for one more job of a principal. */
export class Elsewhere {
  private readonly known = new Map<string, Known>()
  private wanted = new Set<string>()
  private told = Deferred.unsafeMake<void, StoreError>(FiberId.none)
  private readonly woken = new Signal()

  constructor(
    private readonly count: (
      principals: ReadonlyArray<string>
    ) => Effect.Effect<ReadonlyMap<string, OpenJobs>, StoreError>
  ) {}

  /** `unknown`: it is to be read, and asked for again with `isRead`: what was read just now is enough to refuse, or to take one. */
  room({ max, own, principal, what }: Asked, isRead: boolean): "room" | "full" | "unknown" {
    const known = this.of(principal, isRead)
    // Whoever comes now and then would be known nowhere, and have as much on each node as there may be on all.
    if (known === undefined) return "unknown"
    // What ends here others may take: it counts as left from there on, and is not this node's own to take again.
    const here = Math.min(known.here[what] ?? own, own)
    known.here[what] = here
    const there = known.there[what]
    if (own + there >= max) return isRead ? "full" : "unknown"
    const mayTake = Math.max((max - here - there) * takenUnread, isRead ? 1 : 0)
    return own + 1 - here <= mayTake ? "room" : "unknown"
  }

  /** Reads what a principal has elsewhere: no earlier than now. */
  readonly read = (principal: string): Effect.Effect<void, StoreError> =>
    Effect.suspend(() => {
      this.want(principal)
      return Deferred.await(this.told)
    })

  private of(principal: string, isRead: boolean): Known | undefined {
    const known = this.known.get(principal)
    if (known !== undefined) {
      known.isUsed = true
      return known
    }
    if (!isRead) return undefined
    // Forgotten since, which is when it had nothing to do for two seconds.
    const fresh = { there: noJobs, here: {}, isUsed: true, rests: 0 }
    this.known.set(principal, fresh)
    return fresh
  }

  private want(principal: string): void {
    this.wanted.add(principal)
    this.woken.give()
  }

  /** Has all that is used read anew, and forgets the rest. */
  readonly renew = Effect.sync(() => {
    for (const [principal, known] of this.known) {
      if (known.rests-- > 0) continue
      if (known.isUsed) this.want(principal)
      else this.known.delete(principal)
      known.isUsed = false
    }
  })

  /** Reads what is wanted, when it is: all of it in one statement, and one after the other. */
  readonly reading = Effect.suspend(() => {
    const { told } = this
    const principals = [...this.wanted]
    // What was wanted meanwhile was read with what was wanted before.
    if (principals.length === 0) return Effect.void
    this.wanted = new Set()
    this.told = Deferred.unsafeMake(FiberId.none)
    return this.count(principals).pipe(
      Effect.map((found) => {
        for (const principal of principals) {
          const there = found.get(principal) ?? noJobs
          this.known.set(principal, {
            there,
            here: {},
            isUsed: this.known.get(principal)?.isUsed ?? true,
            rests: Math.min(oldest - 1, Math.floor((there.running + there.pending) / countedPerSecond))
          })
        }
      }),
      Effect.onExit((exit) => Deferred.done(told, exit)),
      // Whoever waits is told; for others it is read in a second.
      Effect.catchAllCause((cause) => Effect.logDebug("jobs on other nodes could not be counted", cause))
    )
  })

  /** Nobody reads any more. */
  readonly over = Effect.suspend(() =>
    Deferred.fail(this.told, new StoreError({ message: "the runtime has ended" }))
  )

  /** Waits until something is wanted. */
  get isWanted(): Effect.Effect<void> {
    return this.woken.wait
  }
}

const nothing: ReadonlyMap<string, OpenJobs> = new Map()

/** Tells the same of a runtime that may be alone, where what a principal has here is all that it has. */
export const roomFor = (
  elsewhere: Elsewhere | undefined,
  asked: Asked,
  isRead: boolean
): ReturnType<Elsewhere["room"]> =>
  asked.own >= asked.max ? "full" : (elsewhere?.room(asked, isRead) ?? "room")

/** Makes it, and reads for as long as the scope; `undefined` of a runtime that is alone. */
export const make = (
  cluster: ClusterService | undefined,
  { openOn }: Pick<StoreService, "openOn">
): Effect.Effect<Elsewhere | undefined, never, Scope.Scope> =>
  Effect.gen(function* () {
    if (cluster === undefined || openOn === undefined) return undefined
    // What a node has left that is gone is about to be another's, and what of it is damaged is nobody's: it keeps no place.
    const others = Effect.map(cluster.nodes.list, (nodes) =>
      nodes.flatMap(({ isAlive, name }) => (isAlive && name !== cluster.node ? [name] : []))
    )
    const elsewhere = new Elsewhere((principals) =>
      Effect.flatMap(others, (nodes) =>
        nodes.length === 0 ? Effect.succeed(nothing) : openOn(nodes, principals)
      )
    )
    yield* Effect.addFinalizer(() => elsewhere.over)
    yield* Effect.forkScoped(Effect.forever(Effect.zipRight(elsewhere.isWanted, elsewhere.reading)))
    yield* Effect.forkScoped(Effect.forever(Effect.delay(elsewhere.renew, freshFor)))
    return elsewhere
  })
