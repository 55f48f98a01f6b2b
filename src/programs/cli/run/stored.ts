/** Where a command finds what a runtime has stored: in the Postgres that is named, or else in its file. */
import * as fs from "node:fs"
import * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type { Scope } from "effect/Scope"
import * as CredentialStoreSql from "../../../layers/credentials/CredentialStoreSql.js"
import { owning } from "../../../layers/store/care/ours.js"
import * as StoreSqlite from "../../../layers/store/StoreSqlite.js"
import { isHeld, realName } from "../../../layers/store/sqliteFile.js"
import type { CredentialStore } from "../../../services/credentials/CredentialStore.js"
import { Store, type StoreError, type StoreService } from "../../../services/store/Store.js"
import { fileOf } from "../db-flags.js"
import type { Sourced } from "../Flags.js"
import { UsageError } from "../UsageError.js"
import { checkPg } from "./pgUrl.js"

/** Flags that name it. */
export interface StoredFlags {
  readonly db: Sourced<string> | undefined
  readonly pg: Option.Option<string>
}

/** Returns the Postgres that `--pg` names, or `ARCP_PG` when no file is named. */
export const postgresOf = ({
  db,
  pg
}: StoredFlags): Effect.Effect<Option.Option<Redacted.Redacted>, UsageError | ConfigError> =>
  Effect.gen(function* () {
    const isFile = db !== undefined
    if (isFile && Option.isSome(pg))
      return yield* new UsageError({ message: "choose one of --db FILE and --pg URL" })
    if (isFile) return Option.none()
    const url = Option.isSome(pg)
      ? Option.some(Redacted.make(pg.value))
      : yield* Config.option(Config.redacted("ARCP_PG"))
    if (Option.isSome(url)) yield* checkPg(Option.isSome(pg) ? "--pg" : "ARCP_PG", url.value)
    return url
  })

/** What is stored. */
export interface Stored {
  /** What messages call it, and the flag by which another is named. */
  readonly name: string
  readonly flag: "--db" | "--pg"
  /** For reading only, also while a runtime writes to it. */
  readonly layer: Layer.Layer<Store, StoreError>
  /** Runs work on it while no runtime has it, nor gets it; what is deleted from a file is in no free page of it after that. */
  readonly owning: <A, E>(
    work: (store: StoreService) => Effect.Effect<A, E, Scope>
  ) => Effect.Effect<A, E | StoreError>
  /** The records of credentials with it; nothing where there never were any. */
  readonly credentials: Layer.Layer<CredentialStore, StoreError> | undefined
  /** The same as `layer`, for who looks again and again. */
  readonly beside: Effect.Effect<Beside, StoreError, Scope>
}

/** What a runtime has stored, and whether one runs on it. */
export interface Beside {
  readonly store: StoreService
  /** `undefined` when that cannot be told. */
  readonly isHeld: Effect.Effect<boolean | undefined>
}

/** Returns what the flags, and else the environment, name. */
export const storedOf = (flags: StoredFlags): Effect.Effect<Stored, UsageError | ConfigError> =>
  Effect.flatMap(postgresOf(flags), (url) =>
    Option.match(url, {
      onNone: () => {
        const filename = fileOf(flags.db)
        const layer = StoreSqlite.layerReadOnly({ filename })
        return Effect.succeed<Stored>({
          name: filename,
          flag: "--db",
          layer,
          owning: (work) => owning({ filename, compact: true }, work),
          credentials: fs.existsSync(CredentialStoreSql.beside(filename))
            ? CredentialStoreSql.layerSqliteShared({ filename: CredentialStoreSql.beside(filename) })
            : undefined,
          beside: Effect.map(Layer.build(layer), (context) => ({
            store: Context.get(context, Store),
            isHeld: isHeld(realName(filename))
          }))
        })
      },
      onSome: (named) =>
        Effect.map(
          Effect.promise(() => import("../../../layers/store/pg/beside.js")),
          (beside): Stored => ({
            name: beside.nameOf(named),
            flag: "--pg",
            layer: beside.layerReadOnly(named),
            owning: (work) => beside.owning(named, work),
            credentials: beside.layerCredentials(named),
            beside: beside.looking(named)
          })
        )
    })
  )

/** Refuses a Postgres where a command works on files; `instead` says what there is to use. */
export const filesOnly = (
  flags: StoredFlags,
  command: string,
  instead: string
): Effect.Effect<void, UsageError | ConfigError> =>
  Effect.flatMap(postgresOf(flags), (url) =>
    Option.isNone(url)
      ? Effect.void
      : new UsageError({ message: `${command} works on a SQLite file, not on a Postgres; ${instead}` })
  )
