/**
 * Connections to Postgres, over the driver `pg`: a pool of a store's own.
 *
 * No statement needs anything of its session, so that a pooler may give each to another server connection (PgBouncer,
 * `pool_mode = transaction`). What commits is prepared, as Postgres plans it for as long as it carries it out; a pooler that does
 * not know prepared statements is found out by that, and then none is. A connection that does not answer is thrown away, and
 * never cancelled: through a pooler the number by which one would cancel is somebody else's.
 */
import { createHash } from "node:crypto"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { Scope } from "effect/Scope"
import type * as Pg from "pg"
import { within } from "../../../services/runtime/within.js"
import { StoreError } from "../../../services/store/Store.js"
import type { Naming } from "../naming.js"
import { isUnprepared, toStoreError, Unanswered } from "./failures.js"
import { arrayLiteral } from "./literals.js"
import { type LendPg, PgFailure, type PgStatements } from "./statement.js"

/** How a pool is made. */
export interface PgPoolOptions {
  readonly url: Redacted.Redacted
  readonly maxConnections: number
  readonly connectTimeout: Duration.Duration
  readonly statementTimeout: Duration.Duration
}

/** Who borrows the connections of a pool. */
export interface PgPool {
  readonly lend: LendPg
  /** For what is sent again and again: its statements are prepared, where that works. */
  readonly lendPreparing: LendPg
}

/** Statements that are prepared at the most; Postgres keeps a plan of each for as long as a connection. */
const maxPrepared = 64

/** Which statements of a pool are prepared, by names that are the same whoever prepares the same text. */
class Prepared {
  private readonly names = new Map<string, string>()
  private isOff = false

  nameOf(text: string): string | undefined {
    if (this.isOff) return undefined
    const known = this.names.get(text)
    if (known !== undefined || this.names.size >= maxPrepared) return known
    const name = `arcp_${createHash("sha256").update(text).digest("hex").slice(0, 32)}`
    this.names.set(text, name)
    return name
  }

  /** What was prepared was not found: from now on nothing is. */
  off(): void {
    this.isOff = true
  }
}

const failed = (cause: unknown) => new PgFailure({ cause })

const sent = (value: unknown): unknown => (Array.isArray(value) ? arrayLiteral(value) : value)

/** Sends statements over one connection; rows are given with names, or as arrays. */
const statementsOf = (
  client: Pg.PoolClient,
  name: Naming,
  patience: Duration.Duration,
  prepared: Prepared | undefined
): PgStatements => {
  // By the timers of the process: what is waited for is outside of it, whatever clock the runtime has.
  const send = <A>(sql: string, params: ReadonlyArray<unknown>, rowMode: "array" | undefined) =>
    Effect.async<ReadonlyArray<A>, PgFailure>((resume) => {
      const late = setTimeout(
        () => resume(failed(new Unanswered(Duration.toSeconds(patience)))),
        Duration.toMillis(patience)
      )
      const text = name(sql)
      const prepares = params.length === 0 ? undefined : prepared?.nameOf(text)
      const query = {
        text,
        values: params.map(sent),
        ...(prepares === undefined ? {} : { name: prepares }),
        ...(rowMode === undefined ? {} : { rowMode })
      }
      client.query(query).then(
        ({ rows }) => {
          clearTimeout(late)
          resume(Effect.succeed(rows))
        },
        (cause: unknown) => {
          clearTimeout(late)
          if (isUnprepared(cause)) prepared?.off()
          resume(failed(cause))
        }
      )
    })
  return {
    execute: (sql, params) => send(sql, params, undefined),
    executeRaw: (sql, params) => send(sql, params, undefined),
    executeValues: (sql, params) => send(sql, params, "array")
  }
}

/**
 * Lends a connection of the pool; one on which anything has failed is not used again. Of some errors of Postgres it could be, but
 * it may also lead to a server that is read-only, not know what was prepared on it, or be in a transaction that was not undone.
 */
const lending =
  (pool: Pg.Pool, name: Naming, patience: Duration.Duration, prepared?: Prepared): LendPg =>
  (work) =>
    Effect.acquireUseRelease(
      Effect.tryPromise({ try: () => pool.connect(), catch: (cause) => new PgFailure({ cause }) }),
      (client) => work(statementsOf(client, name, patience, prepared)),
      (client, exit) => Effect.sync(() => client.release(exit._tag === "Failure"))
    )

/** Why a URL cannot be used; it may have a password in it, so it is not repeated. */
const urlProblem = (url: string): string | undefined => {
  try {
    return ["postgres:", "postgresql:"].includes(new URL(url).protocol)
      ? undefined
      : "a URL of Postgres begins with postgres://"
  } catch {
    return "that is no URL; it has the form postgres://USER:PASSWORD@HOST:PORT/DATABASE"
  }
}

/** Returns what a database is called in messages: its address without the user, the password and what follows. */
export const nameOf = (url: Redacted.Redacted): string => {
  try {
    const { host, pathname } = new URL(Redacted.value(url))
    return `postgres://${host}${pathname}`
  } catch {
    return "Postgres"
  }
}

/** The driver, which only this part needs: it is a peer that an application adds. */
const loaded = Effect.tryPromise({ try: () => import("pg"), catch: (cause) => cause }).pipe(
  Effect.catchAll((cause) =>
    typeof cause === "object" && cause !== null && "code" in cause && cause.code === "ERR_MODULE_NOT_FOUND"
      ? new StoreError({
          message: "a store in Postgres needs the package pg, which is not installed here: npm i pg@8",
          cause
        })
      : Effect.die(cause)
  )
)

/** Makes a pool for the scope. Its connections are made when they are needed. */
export const pooled = (
  { connectTimeout, maxConnections, statementTimeout, url }: PgPoolOptions,
  name: Naming
): Effect.Effect<PgPool, StoreError, Scope> =>
  Effect.gen(function* () {
    const text = Redacted.value(url)
    const problem = urlProblem(text)
    if (problem !== undefined) return yield* new StoreError({ message: problem })
    const { default: pg } = yield* loaded
    const pool = yield* Effect.acquireRelease(
      Effect.try({
        try: () =>
          new pg.Pool({
            connectionString: text,
            max: maxConnections,
            connectionTimeoutMillis: Duration.toMillis(connectTimeout),
            idleTimeoutMillis: 60_000,
            keepAlive: true,
            allowExitOnIdle: false,
            // A name of the session would be one more thing that a pooler may not take.
            fallback_application_name: "effect-arcp"
          }),
        // A certificate that is named in the URL is read here.
        catch: toStoreError(nameOf(url))
      }),
      (pool) =>
        within(
          Effect.promise(() => pool.end()),
          "2 seconds"
        )
    )
    // What goes wrong is told by the statement that was sent; without a listener it would end the process.
    pool.on("error", () => undefined)
    pool.on("connect", (client) => client.on("error", () => undefined))
    return {
      lend: lending(pool, name, statementTimeout),
      lendPreparing: lending(pool, name, statementTimeout, new Prepared())
    }
  })
