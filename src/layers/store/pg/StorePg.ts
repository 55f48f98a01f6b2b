/**
 * The store in Postgres, for one runtime at a time, or for several that are nodes with names. A commit is one statement, reads come from a pool, and nothing is left in a
 * session of Postgres, so that a pooler may stand before it.
 */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type { Scope } from "effect/Scope"
import * as Argument from "../../../protocol/Argument.js"
import { CredentialStore } from "../../../services/credentials/CredentialStore.js"
import { inRealTime, within } from "../../../services/runtime/within.js"
import { Store, StoreError, type StoreService } from "../../../services/store/Store.js"
import * as CredentialStorePg from "../../credentials/CredentialStorePg.js"
import { naming, nodeProblem, prefixProblem } from "../naming.js"
import { noted } from "../noted.js"
import { nameOf, type PgPool, pooled } from "./connections.js"
import { toStoreError } from "./failures.js"
import { free } from "./freeing.js"
import { type Holder, hold, migrateShared, release, renew } from "./holding.js"
import { migrate, prepare, stillCurrent } from "./migrate.js"
import { readsOf } from "./reads.js"
import { schemaVersion } from "./schema.js"
import type { LendPg, PgFailure, PgStatements } from "./statement.js"
import { PgWriter, patiently } from "./writer.js"

/** Options of a store in Postgres. */
export interface Options {
  /**
   * Where Postgres is: `postgres://USER:PASSWORD@HOST:PORT/DATABASE`. It may say how TLS is used (`?sslmode=verify-full`,
   * `sslrootcert`, `sslcert` and `sslkey` with paths of files).
   */
  readonly url: Redacted.Redacted
  /** What the names of all tables begin with: lower-case letters, digits and underscores. Default: `arcp_`. */
  readonly prefix?: string | undefined
  /** Connections at the most; of two or more one is for commits. Default: 10. */
  readonly maxConnections?: number | undefined
  /**
   * Whether the statements of commits are prepared, which halves what Postgres has to do for one. A pooler that does not know
   * prepared statements is found out, and then none is; `false` leaves nothing in its connections from the start. Default: `true`.
   */
  readonly prepare?: boolean | undefined
  /** How long a new connection is waited for, one of the pool that is free included. Default: 10 seconds. */
  readonly connectTimeout?: Duration.DurationInput | undefined
  /** How long the answer to a statement is waited for; its connection is then thrown away. Default: 30 seconds. */
  readonly statementTimeout?: Duration.DurationInput | undefined
  /**
   * How long, after it has failed first, what Postgres may do the next time is tried again before it has failed for good, and once at
   * least: a lost connection, a deadlock, a restart. Default: 1 second. What the log keeps then is tried again for `storagePatience`.
   */
  readonly patience?: Duration.DurationInput | undefined
  /**
   * After how long without a sign of life another runtime may take the tables; so long, too, a start waits for one that has
   * crashed. Default: 10 seconds.
   */
  readonly lease?: Duration.DurationInput | undefined
  /**
   * The name of this runtime as a node of a cluster: it shares the tables with the nodes of other names. Default: it has them for
   * itself. Runtimes of the two kinds do not run on the same tables at the same time.
   */
  readonly node?: string | undefined
}

/** Waited for by a timer of the process, which takes no longer ones. */
const timer: Argument.Rule = (value, name) =>
  Argument.positiveDuration(value, name) ??
  (Duration.toMillis(value as Duration.DurationInput) < 2 ** 31
    ? undefined
    : `${name} has to be at most 24 days`)

/** What options of whoever makes such a store have to be. */
export const optionRules = {
  url: Argument.that("a Redacted", Redacted.isRedacted),
  prefix: Argument.maybe(Argument.string),
  maxConnections: Argument.maybe(Argument.positive),
  prepare: Argument.maybe(Argument.boolean),
  connectTimeout: Argument.maybe(timer),
  statementTimeout: Argument.maybe(timer),
  patience: Argument.maybe(Argument.finiteDuration),
  node: Argument.maybe(Argument.string)
}

const optionsRule = Argument.options<Options>({ ...optionRules, lease: Argument.maybe(timer) })

const duration = (input: Duration.DurationInput | undefined, usual: Duration.DurationInput) =>
  Duration.decode(input ?? usual)

/** A Postgres that does not answer learns by the lease that this runtime has gone, and is not waited for. */
const goodbye = Duration.seconds(2)

/** Says that the holder is alive, for as long as it may; returns what is failed when it may no more. */
const keepAlive = (
  lend: LendPg,
  holder: Holder,
  name: string
): Effect.Effect<Deferred.Deferred<never, StoreError>, never, Scope> =>
  Effect.gen(function* () {
    const died = yield* Deferred.make<never, StoreError>()
    const mapError = Effect.mapError(toStoreError(name))
    const telling = noted("saying that this runtime is alive")
    const once = Effect.uninterruptible(
      telling(
        // A defect, too: nobody would say it the next time.
        Effect.catchAllDefect(mapError(lend((statements) => renew(statements, holder, name))), (defect) =>
          Effect.fail(toStoreError(name)(defect))
        )
      )
    ).pipe(Effect.catchAll((error) => (error.fenced === true ? Deferred.fail(died, error) : Effect.void)))
    yield* Effect.forkScoped(
      Effect.forever(
        Effect.zipRight(inRealTime(Effect.sleep(Duration.times(holder.lease, 1 / 3))), once)
      ).pipe(Effect.raceFirst(Effect.ignore(Deferred.await(died))))
    )
    return died
  })

/** Connections, by what they are for. */
interface Connections {
  readonly lend: LendPg
  readonly lendForNews: LendPg
  readonly lendForCommits: LendPg
  readonly lendForLease: LendPg
  readonly lendForMigrations: Effect.Effect<LendPg, StoreError, Scope>
}

/** Opens a store over connections: tables, lease, and what reads and writes. */
const makeOver = (
  { lend, lendForCommits, lendForLease, lendForMigrations, lendForNews }: Connections,
  name: string,
  prefix: string,
  { lease, node }: Pick<Holder, "lease" | "node">,
  patience: Duration.Duration
): Effect.Effect<Context.Context<Stores>, StoreError, Scope> =>
  Effect.gen(function* () {
    const mapError = Effect.mapError(toStoreError(name))
    const version = yield* mapError(lend((statements) => prepare(statements, name, prefix)))
    const patient = (work: (statements: PgStatements) => Effect.Effect<void, PgFailure | StoreError>) =>
      Effect.scoped(Effect.flatMap(lendForMigrations, (lend) => mapError(lend(work))))
    const isShared = node !== undefined && version > 0
    if (isShared && version < schemaVersion)
      yield* patient((statements) => migrateShared(statements, name, prefix))
    const holder: Holder = { id: crypto.randomUUID(), lease, node }
    // It may wait for a lease, and can be given up; what it has taken by then goes by its id.
    yield* Effect.acquireReleaseInterruptible(
      mapError(lend((statements) => hold(statements, holder, name))),
      () => within(Effect.ignoreLogged(lend((statements) => release(statements, holder))), goodbye)
    )
    const over = yield* keepAlive(lendForLease, holder, name)
    const died = Deferred.await(over)
    if (!isShared && version < schemaVersion)
      yield* Effect.raceFirst(
        patient((statements) => migrate(statements, name, prefix)),
        died
      )
    // Somebody may have brought them up to date before this one had its place.
    else yield* mapError(lend((statements) => stillCurrent(statements, name, prefix)))
    const writing = noted("writing to the store")
    const exclusive = (yield* Effect.makeSemaphore(1)).withPermits(1)
    const writer = new PgWriter({ name, lend: lendForCommits, holder, patience })
    const store: StoreService = {
      kind: "durable",
      ...(yield* readsOf(lend, lendForNews, name, patience, node)),
      // Once begun it ends as a whole, and its caller learns how.
      commit: (batch) =>
        batch.ops.length === 0
          ? Effect.void
          : Effect.uninterruptible(
              Effect.tapErrorTag(writing(exclusive(writer.commit(batch))), "StoreError", (error) =>
                // It takes nothing any more, also where it could go on saying that it is alive: jobs would stand still with it.
                error.fenced === true ? Deferred.fail(over, error) : Effect.void
              )
            ),
      vacuum: Effect.uninterruptible(
        writing(
          mapError(
            patiently(
              lend((statements) => free(statements, holder)),
              patience
            )
          )
        )
      ),
      died,
      held: () => 0
    }
    return Context.make(Store, store).pipe(
      Context.add(CredentialStore, CredentialStorePg.make({ lend, name, patience, holder }))
    )
  })

/** What such tables keep. */
export type Stores = Store | CredentialStore

/** Makes what is kept in the tables; see {@link layer}. */
export const open = (options: Options): Effect.Effect<Context.Context<Stores>, StoreError, Scope> =>
  Effect.gen(function* () {
    const { prefix = "arcp_", url } = options
    const problem = prefixProblem(prefix)
    if (problem !== undefined) return yield* new StoreError({ message: problem })
    const misnamed = options.node === undefined ? undefined : nodeProblem(options.node)
    if (misnamed !== undefined) return yield* new StoreError({ message: misnamed })
    const { maxConnections = 10 } = options
    const pool = (connections: number, statementTimeout = options.statementTimeout) =>
      pooled(
        {
          url,
          maxConnections: connections,
          connectTimeout: duration(options.connectTimeout, "10 seconds"),
          statementTimeout: duration(statementTimeout, "30 seconds")
        },
        naming(prefix)
      )
    // Commits have one of their own: they wait for no read, and find what was prepared on it.
    const commits = yield* pool(1)
    const rest = maxConnections > 2 ? maxConnections - 2 : maxConnections - 1
    const reads = rest > 0 ? yield* pool(rest) : commits
    // And so has the lease, where there are enough: it must not be lost because reads are slow.
    const forLease = maxConnections > 2 ? yield* pool(1) : reads
    const preparing = ({ lend, lendPreparing }: PgPool) => (options.prepare === false ? lend : lendPreparing)
    // What a migration takes grows with what is stored.
    const forMigrations = Effect.map(pool(1, "1 day"), (made) => made.lend)
    const lease = duration(options.lease, "10 seconds")
    return yield* makeOver(
      {
        lend: reads.lend,
        lendForNews: preparing(reads),
        lendForCommits: preparing(commits),
        lendForLease: forLease.lend,
        lendForMigrations: forMigrations
      },
      nameOf(url),
      prefix,
      { lease, node: options.node },
      duration(options.patience, "1 second")
    )
  })

/** Makes the store; see {@link layer}. */
export const make = (options: Options): Effect.Effect<StoreService, StoreError, Scope> =>
  Effect.map(open(options), Context.get(Store))

/**
 * Provides the store of a runtime in Postgres, for the lifetime of the layer, in tables that it makes and keeps current; and that of
 * the credentials that are provisioned for its jobs. Needs the package `pg`. One runtime at a time holds the tables of a prefix, unless all of them are nodes.
 *
 * Fails when Postgres cannot be reached, does not let the user in or make tables, has no such database, when the tables are of a
 * newer version, or another runtime holds them.
 *
 * @example
 * Runtime.layer().pipe(Layer.provide(StorePg.layer({ url: Redacted.make("postgres://arcp:secret@db.internal/arcp") })))
 */
export const layer = (options: Options): Layer.Layer<Stores, StoreError> => {
  Argument.check("StorePg.layer", ["options", optionsRule, options])
  return Layer.scopedContext(open(options))
}
