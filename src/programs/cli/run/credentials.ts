/** What `arcp credentials` does: tells what a runtime provisioned and could not revoke, and another try at it. */
import * as fs from "node:fs"
import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import type { ConfigError } from "effect/ConfigError"
import * as Console from "effect/Console"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as LiteLlm from "../../../layers/credentials/CredentialProvisionerLiteLlm.js"
import * as CredentialStoreSql from "../../../layers/credentials/CredentialStoreSql.js"
import * as Revoker from "../../../layers/credentials/Revoker.js"
import { besideNow, realName, schemaOf } from "../../../layers/store/sqliteFile.js"
import { CredentialProvisioner } from "../../../services/credentials/CredentialProvisioner.js"
import { type CredentialRecord, CredentialStore } from "../../../services/credentials/CredentialStore.js"
import type { StoreError } from "../../../services/store/Store.js"
import { columnsOf, fitted } from "../columns.js"
import { fileOf } from "../db-flags.js"
import { stderrLogger } from "../logger.js"
import { inLine, json } from "../text.js"
import { age } from "../time.js"
import { UsageError } from "../UsageError.js"
import { postgresOf, type StoredFlags } from "./stored.js"

/** Some are still good; exit code 1. */
export class NotRevoked extends Data.TaggedError("NotRevoked")<{ readonly message: string }> {}

type Failure = UsageError | NotRevoked | StoreError | ConfigError

/** Milliseconds the provisioner gets for one of them. */
const callTimeout = Duration.seconds(15)

interface CredentialsFlags extends StoredFlags {
  readonly revoke: boolean
  readonly json: boolean
}

type RevokeOutcome = "revoked" | "unsettled" | "failed"

const print = (
  record: CredentialRecord,
  flags: CredentialsFlags,
  now: number,
  outcome?: RevokeOutcome,
  error = record.lastError
) => {
  const fields = {
    id: record.id,
    credential_id: record.credentialId,
    job_id: record.jobId,
    principal: record.principal,
    state: record.state,
    created_at: new Date(record.createdAt).toISOString(),
    attempts: record.attempts,
    endpoint: record.endpoint,
    node: record.node,
    last_error: error,
    outcome
  }
  const parts = [record.id, record.jobId, outcome ?? record.state, age(now - record.createdAt), error ?? ""]
  // All of it, over as many lines as it takes: why it could not be revoked is what people look for.
  return Console.log(
    flags.json ? json(fields) : fitted(inLine(parts.join("  ").trimEnd()), columnsOf(process.stdout))
  )
}

/** Records, and what tells of which a runtime that is up has the say. */
interface Recorded {
  readonly layer: Layer.Layer<CredentialStore, StoreError>
  readonly whoIsThere: Effect.Effect<(record: CredentialRecord) => boolean, StoreError>
}

/** Those of a file; nothing when there never were any. */
const inFile = (db: string): Effect.Effect<Recorded | undefined, StoreError> =>
  Effect.gen(function* () {
    const filename = CredentialStoreSql.beside(db)
    if (!fs.existsSync(filename)) {
      const clean = yield* besideNow(realName(db))
      yield* Effect.zipRight(schemaOf(db, db), clean)
      return undefined
    }
    return {
      layer: CredentialStoreSql.layerSqliteShared({ filename }),
      whoIsThere: Effect.map(CredentialStoreSql.inUse({ filename }), (isUp) => () => isUp)
    }
  })

const inPostgres = (url: Redacted.Redacted): Effect.Effect<Recorded> =>
  Effect.map(
    Effect.promise(() => import("../../../layers/store/pg/beside.js")),
    (beside) => ({ layer: beside.layerCredentials(url), whoIsThere: beside.whoIsThere(url) })
  )

const recordedOf = (flags: CredentialsFlags) =>
  Effect.flatMap(postgresOf(flags), (url) =>
    Option.match(url, { onNone: () => inFile(fileOf(flags.db)), onSome: inPostgres })
  )

/** Those nobody uses any more. A runtime that is up tells only of those whose job it has ended. */
const outstanding = ({ whoIsThere }: Recorded) =>
  Effect.gen(function* () {
    const records = yield* Effect.flatMap(CredentialStore, (store) => store.list)
    // Asked after the listing: a runtime that starts in between has nothing to do with what is listed.
    const isUp = yield* whoIsThere
    const left = records.filter(
      (record) => record.state === "failed" || record.state === "revoking" || !isUp(record)
    )
    return { held: records.length - left.length, records: left }
  })

const revoke = (records: ReadonlyArray<CredentialRecord>, flags: CredentialsFlags) =>
  Effect.gen(function* () {
    const provisioner = yield* CredentialProvisioner
    const store = yield* CredentialStore
    const clock = yield* Effect.clock
    const deps = { provisioner, store, clock, options: { callTimeout } }
    let unsettledUntil = 0
    let failed = 0
    for (const record of records) {
      const result = yield* Effect.either(Revoker.attempt(deps, record))
      const now = clock.unsafeCurrentTimeMillis()
      if (result._tag === "Left") {
        failed++
        yield* print(record, flags, now, "failed", Revoker.cleanMessage(result.left.message))
      } else {
        if (result.right === "unsettled")
          unsettledUntil = Math.max(unsettledUntil, record.unsettledUntil ?? 0)
        yield* print({ ...record, lastError: undefined }, flags, now, result.right)
      }
    }
    if (failed > 0)
      return yield* new NotRevoked({
        message: `${failed} of ${records.length} could not be revoked and may still be good; try again, or delete them upstream, where each is known by its id`
      })
    if (unsettledUntil > 0)
      return yield* new NotRevoked({
        message: `some were asked for only moments ago and may still come to be; run this again after ${new Date(unsettledUntil).toISOString()}, or start the runtime`
      })
  })

/** With the provisioner it revokes with. */
export const runWith = (
  flags: CredentialsFlags,
  provisioner: Layer.Layer<CredentialProvisioner, UsageError | ConfigError>
): Effect.Effect<void, Failure> =>
  Effect.gen(function* () {
    const recorded = yield* recordedOf(flags)
    if (recorded === undefined)
      return yield* Effect.when(Console.error("no credential was ever provisioned here"), () => !flags.json)
    yield* Effect.gen(function* () {
      const { held, records } = yield* outstanding(recorded)
      if (!flags.json) {
        if (records.length === 0) yield* Console.error("no credential is outstanding")
        if (held > 0) yield* Console.error("a runtime is up: those that its jobs hold are left out")
      }
      if (!flags.revoke) {
        const now = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
        yield* Effect.forEach(records, (record) => print(record, flags, now), { discard: true })
        if (records.length === 0) return
        return yield* new NotRevoked({
          message: `${records.length} ${records.length === 1 ? "credential is" : "credentials are"} outstanding and may still be good; arcp credentials --revoke tries again`
        })
      }
      if (records.length === 0) return
      yield* Effect.provide(revoke(records, flags), provisioner)
    }).pipe(Effect.provide(recorded.layer))
  }).pipe(Effect.asVoid)

/** The one that `arcp serve` would use. */
const configured = Layer.unwrapEffect(
  Effect.map(
    Effect.filterOrFail(
      LiteLlm.configured,
      (is) => is,
      () =>
        new UsageError({
          message:
            "no provisioner is configured to revoke with; set ARCP_LITELLM_URL and ARCP_LITELLM_KEY as for arcp serve"
        })
    ),
    LiteLlm.layerConfig
  )
).pipe(Layer.provide(FetchHttpClient.layer))

export const run = (flags: CredentialsFlags): Effect.Effect<void, Failure> =>
  Effect.provide(runWith(flags, configured), stderrLogger(flags.json ? "json" : "logfmt"))
