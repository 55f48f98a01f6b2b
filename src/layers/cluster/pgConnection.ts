/** One connection to Postgres that is kept: made again when it is lost, and looked at, as one can be deaf without a word. */
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import pg from "pg"
import { within } from "../../services/runtime/within.js"

/** The connection is not there any more, or cannot be made. */
export class ConnectionLost extends Data.TaggedError("ConnectionLost")<{ readonly cause: unknown }> {}

/** A connection that is open. */
export interface PgConnection {
  readonly client: pg.Client
  /** Runs a statement; one at a time. */
  readonly query: (
    text: string,
    values?: ReadonlyArray<unknown>
  ) => Effect.Effect<pg.QueryResult, ConnectionLost>
  /** Fails when the connection is lost. */
  readonly lost: Effect.Effect<never, ConnectionLost>
}

/** A statement that takes longer, or a server that does not say hello, is a connection that is lost. */
const patience = Duration.seconds(5)
/** What nobody speaks on is tried this often. */
const probe = Duration.seconds(10)
/** What the other side gets to hear the goodbye. */
const goodbye = Duration.seconds(1)

/** Pauses between tries: 50 ms at first, then up to 5 s; from the beginning when a connection has lasted. */
const pauses = Schedule.exponential("50 millis").pipe(
  Schedule.union(Schedule.spaced("5 seconds")),
  Schedule.jittered,
  Schedule.resetAfter("30 seconds")
)

const noop = () => {}

const open = (url: Redacted.Redacted): Effect.Effect<PgConnection, ConnectionLost, Scope.Scope> =>
  Effect.gen(function* () {
    const client = new pg.Client({
      connectionString: Redacted.value(url),
      keepAlive: true,
      connectionTimeoutMillis: Duration.toMillis(patience),
      query_timeout: Duration.toMillis(patience)
    })
    // Without a listener an error ends the process.
    client.on("error", noop)
    yield* Effect.addFinalizer(() =>
      within(
        Effect.promise(() => client.end().catch(noop)),
        goodbye
      )
    )
    const tried = <A>(evaluate: () => Promise<A>) =>
      Effect.tryPromise({ try: evaluate, catch: (cause) => new ConnectionLost({ cause }) })
    yield* tried(() => client.connect())
    return {
      client,
      query: (text, values = []) => tried(() => client.query(text, [...values])),
      lost: Effect.async((resume) => {
        const fail = (cause?: unknown) =>
          resume(new ConnectionLost({ cause: cause ?? "the connection has ended" }))
        client.once("error", fail).once("end", fail)
        return Effect.sync(() => client.off("error", fail).off("end", fail))
      })
    }
  })

/**
 * Uses a connection for ever: when it is lost, `use` is interrupted and begins anew on the next. The first failure and the first
 * success after it are logged.
 */
export const keep = (
  what: string,
  url: Redacted.Redacted,
  use: (connection: PgConnection) => Effect.Effect<never, ConnectionLost>
): Effect.Effect<never> =>
  Effect.suspend(() => {
    let isLost = false
    const once = Effect.scoped(
      Effect.gen(function* () {
        const connection = yield* open(url)
        if (isLost) yield* Effect.logInfo(`${what}: connected to Postgres again`)
        isLost = false
        return yield* Effect.raceFirst(use(connection), connection.lost)
      })
    ).pipe(
      Effect.tapError(({ cause }) => {
        if (isLost) return Effect.void
        isLost = true
        return Effect.logWarning(`${what}: not connected to Postgres, tried again`, cause)
      })
    )
    return Effect.orDie(Effect.retry(once, pauses))
  })

/** Tries a connection on which nothing is said otherwise, again and again; a try that has begun has its answer. */
export const probing = (query: PgConnection["query"]): Effect.Effect<never, ConnectionLost> =>
  Effect.forever(Effect.delay(Effect.uninterruptible(query("select 1")), probe))
