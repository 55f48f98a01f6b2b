/** The store of a runtime in Postgres for whoever is not that runtime: read beside it, or had while none runs. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import type { Scope } from "effect/Scope"
import { CredentialStore } from "../../../services/credentials/CredentialStore.js"
import { Store, StoreError, type StoreService } from "../../../services/store/Store.js"
import * as CredentialStorePg from "../../credentials/CredentialStorePg.js"
import { naming } from "../naming.js"
import { nameOf, pooled } from "./connections.js"
import { toStoreError } from "./failures.js"
import { look, slotOf, slotsAlive } from "./holding.js"
import { versionOf } from "./migrate.js"
import { readsOf } from "./reads.js"
import * as StorePg from "./StorePg.js"
import { schemaVersion } from "./schema.js"
import { survey } from "./survey.js"

export { nameOf } from "./connections.js"

const prefix = "arcp_"

const empty = (name: string) => `${name} holds no runtime's data; name the database of one`

/** Opens a database whose tables are of this version. */
const opened = (url: Redacted.Redacted) =>
  Effect.gen(function* () {
    const name = nameOf(url)
    const { lend } = yield* pooled(
      {
        url,
        maxConnections: 2,
        connectTimeout: Duration.seconds(10),
        statementTimeout: Duration.seconds(30)
      },
      naming(prefix)
    )
    const version = yield* Effect.mapError(
      lend((statements) => versionOf(statements, prefix)),
      toStoreError(name)
    )
    if (version !== schemaVersion)
      return yield* new StoreError({
        message:
          version === 0
            ? empty(name)
            : version < schemaVersion
              ? `${name} was written by an older version; start a runtime on it once to bring it up to date`
              : `${name} was written by a newer version (schema ${version}, this one knows ${schemaVersion})`
      })
    return { lend, name }
  })

/** For which a statement of a tool is tried again. */
const patience = Duration.seconds(1)

/** What reads, and tells whether a runtime holds the tables, over the same connections; `undefined` when that cannot be told. */
export const looking = (url: Redacted.Redacted) =>
  Effect.gen(function* () {
    const { lend, name } = yield* opened(url)
    const refused = new StoreError({ message: `${name} is only read` })
    const store: StoreService = {
      kind: "durable",
      ...(yield* readsOf(lend, lend, name, patience)),
      commit: () => refused,
      vacuum: refused,
      held: () => 0
    }
    const isHeld = lend(look).pipe(
      Effect.map((holder) => holder !== undefined && holder.left > 0),
      Effect.catchAll(() => Effect.succeed(undefined))
    )
    return { store, isHeld }
  })

/** Provides what a runtime has stored in a Postgres. Commits fail. */
export const layerReadOnly = (url: Redacted.Redacted): Layer.Layer<Store, StoreError> =>
  Layer.scoped(
    Store,
    Effect.map(looking(url), ({ store }) => store)
  )

/** Provides the records of credentials that runtimes have in a Postgres, also while they run. */
export const layerCredentials = (url: Redacted.Redacted): Layer.Layer<CredentialStore, StoreError> =>
  Layer.scoped(
    CredentialStore,
    Effect.map(opened(url), (parts) => CredentialStorePg.make({ ...parts, patience, holder: undefined }))
  )

/** Returns what tells whether the node of a record is there, or a runtime that is alone. */
export const whoIsThere = (
  url: Redacted.Redacted
): Effect.Effect<(record: { readonly node?: string | undefined }) => boolean, StoreError> =>
  Effect.gen(function* () {
    const { lend, name } = yield* opened(url)
    const slots = yield* Effect.mapError(lend(slotsAlive), toStoreError(name))
    return ({ node }: { readonly node?: string | undefined }) =>
      slots.has(slotOf({ node: undefined })) || slots.has(slotOf({ node: node ?? "" }))
  }).pipe(Effect.scoped)

/** Runs work on the tables of a runtime that does not run, and that none gets meanwhile. */
export const owning = <A, E>(
  url: Redacted.Redacted,
  work: (store: StoreService) => Effect.Effect<A, E, Scope>
): Effect.Effect<A, E | StoreError> =>
  survey(url).pipe(
    Effect.filterOrFail(
      ({ version }) => version > 0,
      ({ name }) => new StoreError({ message: empty(name) })
    ),
    Effect.zipRight(StorePg.make({ url })),
    Effect.flatMap(work),
    Effect.scoped
  )
