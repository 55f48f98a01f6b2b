/** What a failing Postgres means: to the store, which may try again, and to the person who runs the runtime. */

import { StoreError } from "../../../services/store/Store.js"
import { rootOf } from "../sqlError.js"

interface PgProblem {
  /** SQLSTATE, or the code of the system; empty when neither is known. */
  readonly code: string
  readonly message: string
  /** Postgres itself has said so: the statement has not been carried out, unless the connection ended with it. */
  readonly said: boolean
}

const failureOf = (cause: unknown): PgProblem => {
  const root = rootOf(cause)
  if (typeof root !== "object" || root === null) return { code: "", message: String(root), said: false }
  const code = "code" in root && typeof root.code === "string" ? root.code : ""
  const message = "message" in root ? String(root.message) : String(root)
  return { code, message, said: "severity" in root && /^[0-9A-Z]{5}$/.test(code) }
}

/** A connection is gone, or was never there: codes of Postgres's classes, and of the system. */
const lostCodes = /^(08...|57P0[1-5]|25P03)$/
const systemCodes =
  /^(ECONNREFUSED|ECONNRESET|ECONNABORTED|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|EAI_AGAIN|ENOTFOUND|ENOENT)$/
/**
 * What Postgres took back, and may do the next time: serialization, deadlocks, locks, what it or an operator has cancelled, too
 * little memory or too many connections, a row that somebody else has inserted meanwhile, which is seen then; and a server that
 * is read-only, since the next connection may lead to the one that is not. A full disk stays full for longer.
 */
const againCodes = /^(40001|40P01|55P03|57014|53200|53300|53400|25006|23505)$/

/** What was prepared on a connection is not there, is somebody else's, or gives other columns since: behind a pooler, or after `DISCARD`. */
const unpreparedCodes = /^(26000|42P05|0A000)$/

/** Returns whether a statement has failed, and was not carried out, because it was prepared. */
export const isUnprepared = (cause: unknown): boolean => {
  const { code, said } = failureOf(cause)
  return said && unpreparedCodes.test(code)
}

/** Returns whether a statement that has failed so may work the next time. Whether it was carried out is another question. */
export const mayWork = (cause: unknown): boolean => {
  const { code, said } = failureOf(cause)
  if (said) return lostCodes.test(code) || againCodes.test(code) || unpreparedCodes.test(code)
  // The driver says of a connection that has ended, or does not answer, only that it has.
  return code === "" || systemCodes.test(code)
}

/** Why a statement has failed of which nothing was heard for as long as it may take. */
export class Unanswered extends Error {
  constructor(seconds: number) {
    super(`no answer within ${seconds} s (timeout)`)
  }
}

/** Returns whether a statement has failed because nothing was heard of it, or of the connection that it was to go over. */
export const isUnanswered = (cause: unknown): boolean => {
  const { code, message } = failureOf(cause)
  return rootOf(cause) instanceof Unanswered || code === "ETIMEDOUT" || /timeout exceeded/i.test(message)
}

/** Says in words what went wrong; `name` is what the database is called. */
const explain = (name: string, { code, message }: PgProblem, told: boolean): string => {
  const detail = told ? `: ${message}` : ""
  if (code === "28P01" || code === "28000")
    return `${name} refuses this user or password${detail}; check both, and pg_hba.conf`
  if (code === "3D000") return `${name} does not exist${detail}; create it, with createdb or CREATE DATABASE`
  if (code === "3F000")
    return `${name} has no schema to make tables in${detail}; check the search_path of the user`
  if (code === "42501" || code === "25006")
    return code === "25006"
      ? `${name} is read-only: it is a replica, or was made so; name the primary`
      : `${name} does not let this user make or write its tables${detail}`
  if (code === "53100") return `the disk of ${name} is full; free space there`
  if (code === "53300")
    return `${name} has no connection left${detail}; raise max_connections, or use a pooler`
  if (code === "57P03") return `${name} does not take connections at the moment${detail}`
  if (code === "ENOTFOUND" || code === "EAI_AGAIN")
    return `${name} cannot be reached: its host is not known${detail}`
  if (/, open '/.test(message)) return `a file that the URL of ${name} names cannot be read${detail}`
  if (systemCodes.test(code))
    return `${name} cannot be reached (${code}); check that Postgres runs and listens there`
  if (/does not support SSL/i.test(message))
    return `${name} does not offer TLS, which its URL asks for; switch it on there, or drop sslmode`
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID")
    return `${name} shows a certificate of another name${detail}; use the name that is in it`
  if (/certificate|self.signed/i.test(message))
    return `${name} shows a certificate that is not trusted${detail}; give sslrootcert=FILE in the URL`
  if (/timeout|terminated|ended/i.test(message)) return `${name} does not answer${detail}`
  return told ? `${name}${detail}` : `${name} failed`
}

/** Maps whatever Postgres, its driver or the network failed with; a `StoreError` stays as it is. */
export const toStoreError =
  (name: string) =>
  (cause: unknown): StoreError => {
    if (cause instanceof StoreError) return cause
    const failure = failureOf(cause)
    return new StoreError({
      message: explain(name, failure, true),
      publicMessage: explain("the database", failure, false),
      cause
    })
  }
