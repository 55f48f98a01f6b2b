/** What work on Postgres is given, and how it fails. */
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import type * as lending from "../lending.js"

/** A statement failed, or there was no connection for it; `cause` is what the driver says. */
export class PgFailure extends Data.TaggedError("PgFailure")<{ readonly cause: unknown }> {}

/** Sends statements over one connection. */
export type PgStatements = lending.Statements<PgFailure>

/** Gives work a connection that nobody else has meanwhile. */
export type LendPg = <A, E>(
  work: (statements: PgStatements) => Effect.Effect<A, E>
) => Effect.Effect<A, E | PgFailure>
