/**
 * The hello room: connections that have not said who they are, at most `maxPendingHellos` of them, each no longer than
 * `helloTimeout`, and as long again until that is decided. Others wait at its door, half as long. All may stay as long as each other, so who came first is the first
 * whose time is up: one fiber looks after all.
 */
import * as Chunk from "effect/Chunk"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { InternalError, InvalidRequest } from "../../protocol/Errors.js"
import type { Options } from "../../services/runtime/RuntimeOptions.js"
import { Signal } from "../../services/runtime/Signal.js"
import { Closed, type Connection, closeCode, type Inbound } from "../../services/transport/Transport.js"
import * as Door from "../transport/Door.js"
import { type Greeted, HelloRefusal } from "./Handshake.js"

/** A connection whose hello was accepted. */
export interface Arrived {
  readonly greeted: Greeted
  /** The frames that came with the hello. */
  readonly rest: Chunk.Chunk<Inbound>
}

/** What the room works on. */
export interface HelloRoomServices {
  readonly options: Options
  /** Milliseconds that only go forward. */
  readonly elapsed: () => number
  readonly greet: (connection: Connection, frame: Inbound) => Effect.Effect<Greeted, HelloRefusal>
  /** See TurnShare.ts. */
  readonly share: Effect.Effect<void>
  readonly stopping: () => boolean
  /** Tells a connection why it is refused, and closes it. */
  readonly refuse: (connection: Connection, refusal: HelloRefusal) => Effect.Effect<void>
}

interface Waiting {
  readonly connection: Connection
  readonly until: number
  late: boolean
}

const shuttingDown = new HelloRefusal(
  new InternalError({ message: "the runtime is shutting down", details: { reason: "shutdown" } }),
  "1.1"
)

const tooMany = (max: number) =>
  new HelloRefusal(
    new InternalError({
      message: `limit reached: at most ${max} connections may be waiting for session.hello; try again later`,
      details: { limit: "pending_hellos" }
    }),
    "1.1"
  )

const tooLate = (after: Duration.Duration) =>
  new HelloRefusal(
    new InvalidRequest({ message: `session.hello must come within ${Duration.toSeconds(after)} s` }),
    "1.1"
  )

const undecided = (after: Duration.Duration) =>
  new HelloRefusal(
    new InternalError({
      message: `session.hello could not be decided within ${Duration.toSeconds(after)} s; try again later`,
      details: { reason: "authentication" }
    }),
    "1.1"
  )

/** Waits at the door for one of `max` places and runs `visit` in it. Fails when too many wait already, or for too long. */
const inPlace = <A, E>(door: Door.Door, max: number, visit: Effect.Effect<A, E>) =>
  Effect.suspend(() => {
    let leave = () => {}
    const place = Effect.async<void, HelloRefusal>((resume) => {
      const goAway = door.arrive({
        admit: (left) => {
          leave = left
          resume(Effect.void)
        },
        refuse: () => resume(Effect.fail(tooMany(max)))
      })
      return Effect.sync(goAway)
    })
    return Effect.ensuring(
      Effect.zipRight(place, visit),
      Effect.sync(() => leave())
    )
  })

/** Connections that have not sent anything, in the order in which their time is up. */
class Silent {
  private readonly waiting = new Set<Waiting>()
  private readonly arrival = new Signal()

  constructor(private readonly services: Pick<HelloRoomServices, "elapsed" | "options" | "refuse">) {}

  /** Returns the first frames of a connection; what comes when its time was up already is not looked at. */
  firstFrames(connection: Connection): Effect.Effect<Chunk.Chunk<Inbound>, Closed> {
    return Effect.suspend(() => {
      const { elapsed, options } = this.services
      const until = elapsed() + Duration.toMillis(options.helloTimeout)
      const waiting: Waiting = { connection, until, late: false }
      this.waiting.add(waiting)
      if (this.waiting.size === 1) this.arrival.give()
      return connection.take.pipe(
        Effect.ensuring(Effect.sync(() => this.waiting.delete(waiting))),
        Effect.filterOrFail(
          () => !waiting.late,
          () => new Closed({ code: closeCode.protocolError, reason: "INVALID_REQUEST" })
        )
      )
    })
  }
  /** Refuses whose time is up, and returns when there may be others. */
  readonly patrol: Effect.Effect<void> = Effect.suspend(() => {
    const { elapsed, options, refuse } = this.services
    const [first] = this.waiting
    if (first === undefined) return this.arrival.wait
    const left = first.until - elapsed()
    if (left > 0) return Effect.sleep(Duration.millis(Math.max(1, Math.ceil(left))))
    this.waiting.delete(first)
    first.late = true
    return Effect.asVoid(Effect.fork(refuse(first.connection, tooLate(options.helloTimeout))))
  })
}

/** A verifier that never answers, or cannot be interrupted, keeps nobody's place. */
const decided = (deciding: Effect.Effect<Greeted, HelloRefusal>, patience: Duration.Duration) =>
  Effect.timeoutFail(Effect.disconnect(deciding), {
    duration: patience,
    onTimeout: () => undecided(patience)
  })

/**
 * Returns what came with the hello and since. Fails when the peer has gone and left nothing to do: it would take its
 * session from the connection that came after, which may have been decided first.
 */
const stillThere = (
  connection: Connection,
  rest: Chunk.Chunk<Inbound>
): Effect.Effect<Chunk.Chunk<Inbound>, Closed> =>
  Effect.raceFirst(connection.take, Effect.succeed(Chunk.empty<Inbound>())).pipe(
    Effect.map((since) => Chunk.appendAll(rest, since)),
    Effect.catchAll((closed) =>
      closed.stillReads === true || Chunk.isNonEmpty(rest) ? Effect.succeed(rest) : Effect.fail(closed)
    )
  )

/** Opens the room; whose time is up is looked after until the scope closes. */
export const make = (
  services: HelloRoomServices
): Effect.Effect<
  { readonly greet: (connection: Connection) => Effect.Effect<Arrived, HelloRefusal | Closed> },
  never,
  Scope.Scope
> =>
  Effect.gen(function* () {
    const { greet, options, share, stopping } = services
    const silent = new Silent(services)
    const door = yield* Door.make({
      places: options.maxPendingHellos,
      patience: Door.patience(options.helloTimeout),
      share: Effect.void
    })
    yield* Effect.forkScoped(Effect.forever(silent.patrol))

    const receive = (connection: Connection): Effect.Effect<Arrived, HelloRefusal | Closed> =>
      Effect.gen(function* () {
        if (stopping()) return yield* Effect.fail(shuttingDown)
        yield* connection.setMaxFrameBytes(options.maxHelloFrameBytes)
        const frames = yield* silent.firstFrames(connection)
        yield* share
        if (stopping()) return yield* Effect.fail(shuttingDown)
        const greeted = yield* decided(greet(connection, Chunk.unsafeHead(frames)), options.helloTimeout)
        yield* connection.setMaxFrameBytes(options.maxFrameBytes)
        return { greeted, rest: yield* stillThere(connection, Chunk.drop(frames, 1)) }
      })

    return {
      greet: (connection) => inPlace(door, options.maxPendingHellos, receive(connection))
    }
  })

/** Where connections are until their hello is decided. */
export type HelloRoom = Effect.Effect.Success<ReturnType<typeof make>>
