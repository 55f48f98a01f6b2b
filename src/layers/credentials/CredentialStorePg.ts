/**
 * Records of credentials in the Postgres of a runtime, or of the nodes that share it, beside their jobs.
 *
 * Not by the batches of the log: a record is one statement of its own, on a connection of the pool for reads, so it waits for no
 * event, and none for it. Each states who writes it, as a batch does, and locks that place until it is committed: whoever takes it
 * from there on finds what was written before, and nothing comes after. One that mints states with which epoch its job is had, too.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type {
  CredentialRecord,
  CredentialStoreService,
  SharedCredentials
} from "../../services/credentials/CredentialStore.js"
import { epochOf, Fenced, StoreError } from "../../services/store/Store.js"
import { noted } from "../store/noted.js"
import { toStoreError } from "../store/pg/failures.js"
import { type Holder, lost, slotOf, slotOfNode } from "../store/pg/holding.js"
import { lockWriters, transaction } from "../store/pg/migrate.js"
import type { LendPg } from "../store/pg/statement.js"
import { fromStored, toStored } from "../store/pg/text.js"
import { patiently } from "../store/pg/writer.js"

/** What such a store works with. */
export interface Parts {
  readonly lend: LendPg
  /** What the database is called. */
  readonly name: string
  /** How long a statement is tried again before its failure is told. */
  readonly patience: Duration.Duration
  /** Who writes. A tool that works beside the runtimes is nobody. */
  readonly holder: Holder | undefined
}

/** Column → field and type. What is not named here is not written down, whatever else a record may carry. */
const fields = {
  id: ["id", "text"],
  credential_id: ["credentialId", "text"],
  job_id: ["jobId", "text"],
  principal: ["principal", "text"],
  state: ["state", "text"],
  endpoint: ["endpoint", "text"],
  reference: ["reference", "text"],
  created_at: ["createdAt", "bigint"],
  updated_at: ["updatedAt", "bigint"],
  unsettled_until: ["unsettledUntil", "bigint"],
  attempts: ["attempts", "bigint"],
  last_error: ["lastError", "text"],
  node: ["node", "text"],
  epoch: ["epoch", "bigint"]
} as const satisfies Record<string, readonly [keyof CredentialRecord, "text" | "bigint"]>

const columns = Object.keys(fields)
const names = columns.join(", ")
const shown = Object.entries(fields)
  .map(([column, [, type]]) => (type === "bigint" ? `${column}::float8` : column))
  .join(", ")

const toRecord = (row: ReadonlyArray<unknown>): CredentialRecord => {
  const record: Record<string, unknown> = {}
  for (const [i, [field, type]] of Object.values(fields).entries()) {
    const cell = row[i]
    if (cell === null || (field === "node" && cell === "")) continue
    record[field] = type === "text" ? fromStored(String(cell)) : Number(cell)
  }
  return record as unknown as CredentialRecord
}

/** The name of a node as it is stored: empty of nobody, and of a runtime that is alone. */
const nodeOf = ({ node = "" }: Pick<CredentialRecord, "node">): string => toStored(node)

/** Parameters of a statement, as they are named in its text. */
class Given {
  readonly values: Array<unknown> = []

  text(value: string): string {
    return `$${this.values.push(value)}::text`
  }
  bigint(value: number): string {
    return `$${this.values.push(value)}::bigint`
  }
  /** The columns of a record, in order. */
  record(record: CredentialRecord): ReadonlyArray<string> {
    return Object.values(fields).map(([field, type]) => {
      const value = field === "node" ? (record.node ?? "") : record[field]
      return `$${this.values.push(typeof value === "string" ? toStored(value) : (value ?? null))}::${type}`
    })
  }
}

/**
 * The place of whoever writes, which nobody takes before this statement is committed. Its commits, and that it says that it is alive,
 * go on meanwhile: they change no key.
 */
const holding = (given: Given, holder: Holder | undefined): string =>
  holder === undefined
    ? "holder AS (SELECT 1)"
    : `holder AS (SELECT 1 FROM {writers} WHERE slot = ${given.text(slotOf(holder))} AND id = ${given.text(holder.id)} FOR KEY SHARE)`

/**
 * The job of a record that is to be held, when somebody else has it. One that is not stored yet is had by whoever is about to open
 * it, and what is to be revoked states nothing of its job.
 */
const elsewhere = (given: Given, holder: Holder | undefined, record: CredentialRecord): string =>
  holder?.node === undefined || (record.state !== "minting" && record.state !== "active")
    ? "elsewhere AS (SELECT 1 WHERE false)"
    : `elsewhere AS (SELECT 1 FROM {jobs} WHERE job_id = ${given.text(record.jobId)}
         AND (node <> ${given.text(nodeOf(record))} OR epoch <> ${given.bigint(epochOf(record))}))`

const may = "EXISTS (SELECT FROM holder) AND NOT EXISTS (SELECT FROM elsewhere)"
const outcome = "SELECT EXISTS (SELECT FROM holder), EXISTS (SELECT FROM elsewhere), EXISTS (SELECT FROM put)"

/** A statement, and what it is given. */
type Text = readonly [sql: string, values: ReadonlyArray<unknown>]

/** What is sent again since no answer came finds itself there: that is no other record. */
const inserting = (holder: Holder | undefined, record: CredentialRecord): Text => {
  const given = new Given()
  const sql = `WITH ${holding(given, holder)}, ${elsewhere(given, holder, record)},
    put AS (INSERT INTO {credentials} AS c (${names}) SELECT ${given.record(record).join(", ")} WHERE ${may}
      ON CONFLICT (id) DO UPDATE SET updated_at = excluded.updated_at
        WHERE (c.job_id, c.credential_id, c.state, c.created_at, c.updated_at, c.node)
          = (excluded.job_id, excluded.credential_id, excluded.state, excluded.created_at, excluded.updated_at, excluded.node)
      RETURNING 1) ${outcome}`
  return [sql, given.values]
}

const updating = (holder: Holder | undefined, record: CredentialRecord): Text => {
  const given = new Given()
  const sql = `WITH ${holding(given, holder)}, ${elsewhere(given, holder, record)},
    put AS (UPDATE {credentials} SET (${names}) = ROW (${given.record(record).join(", ")})
      WHERE id = ${given.text(record.id)} AND node = ${given.text(nodeOf(record))} AND ${may} RETURNING 1) ${outcome}`
  return [sql, given.values]
}

const removing = (holder: Holder | undefined, id: string, node: string | undefined): Text => {
  const given = new Given()
  const sql = `WITH ${holding(given, holder)},
    gone AS (DELETE FROM {credentials} WHERE id = ${given.text(id)} AND node = ${given.text(nodeOf({ node }))}
      AND EXISTS (SELECT FROM holder)) SELECT EXISTS (SELECT FROM holder)`
  return [sql, given.values]
}

/** A node that is back under its name has read what it left before, and nothing is taken from it. */
const taking = (holder: Holder | undefined, from: string, to: string): Text => {
  const given = new Given()
  const sql = `WITH ${holding(given, holder)},
    back AS (SELECT 1 FROM {writers} WHERE slot = ${given.text(slotOfNode(from))}),
    taken AS (UPDATE {credentials} SET node = ${given.text(toStored(to))} WHERE node = ${given.text(toStored(from))}
      AND EXISTS (SELECT FROM holder) AND NOT EXISTS (SELECT FROM back) RETURNING ${names})
    SELECT EXISTS (SELECT FROM holder), ${shown} FROM (SELECT 1) AS one LEFT JOIN taken ON true ORDER BY created_at, id`
  return [sql, given.values]
}

/** Makes the store over the tables of a runtime. */
export const make = ({ holder, lend, name, patience }: Parts): CredentialStoreService => {
  const reading = noted("reading records of credentials")
  const writing = noted("writing records of credentials")
  // A statement is uninterruptible, so whoever writes learns whether it is written.
  const run = ([sql, values]: Text) =>
    Effect.mapError(
      patiently(
        Effect.uninterruptible(lend((statements) => statements.executeValues(sql, values))),
        patience
      ),
      toStoreError(name)
    )
  const fenced = () =>
    holder === undefined ? new StoreError({ message: `${name} was not written to` }) : lost(name, holder)
  /** Writes a record; gives whether it is there as it was put. */
  const put = (text: Text, { epoch, jobId }: CredentialRecord): Effect.Effect<boolean, StoreError | Fenced> =>
    Effect.flatMap(writing(run(text)), ([row]): Effect.Effect<boolean, StoreError | Fenced> => {
      if (row?.[0] !== true) return fenced()
      if (row[1] === true) return new Fenced({ owners: [{ job: jobId, epoch: epochOf({ epoch }) }] })
      return Effect.succeed(row[2] === true)
    })
  const shared: SharedCredentials = {
    nodes: Effect.map(reading(run(["SELECT DISTINCT node FROM {credentials}", []])), (rows) =>
      rows.map(([node]) => fromStored(String(node)))
    ),
    take: (from, to) =>
      // Not sent again: what it has taken would not be told a second time.
      Effect.flatMap(
        writing(
          Effect.mapError(
            Effect.uninterruptible(
              lend((statements) =>
                transaction(
                  statements,
                  // Its node comes back before this, and is seen, or after it, and finds what was taken.
                  Effect.zipRight(
                    statements.executeRaw(lockWriters, []),
                    statements.executeValues(...taking(holder, from, to))
                  )
                )
              )
            ),
            toStoreError(name)
          )
        ),
        (rows): Effect.Effect<ReadonlyArray<CredentialRecord>, StoreError> =>
          rows[0]?.[0] === true
            ? Effect.succeed(rows.flatMap(([, ...row]) => (row[0] === null ? [] : [toRecord(row)])))
            : fenced()
      )
  }
  return {
    kind: "durable",
    insert: (record) =>
      Effect.filterOrFail(
        put(inserting(holder, record), record),
        (isPut) => isPut,
        () => new StoreError({ message: `there is a credential ${record.id} already` })
      ).pipe(Effect.asVoid),
    update: (record) => Effect.asVoid(put(updating(holder, record), record)),
    remove: (id, node) =>
      Effect.flatMap(writing(run(removing(holder, id, node))), ([row]) =>
        row?.[0] === true ? Effect.void : fenced()
      ),
    list: Effect.map(
      reading(run([`SELECT ${shown} FROM {credentials} ORDER BY created_at, id`, []])),
      (rows) => rows.map(toRecord)
    ),
    shared
  }
}

export * from "../../services/credentials/CredentialStore.js"
