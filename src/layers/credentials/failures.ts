/** What goes wrong with credentials, in the words that a client and an operator are told. */
import * as Effect from "effect/Effect"
import { BudgetExhausted, InternalError, InvalidRequest } from "../../protocol/Errors.js"
import { cut } from "../../protocol/Text.js"
import type { ProvisionError } from "../../services/credentials/CredentialProvisioner.js"
import * as Again from "../../services/runtime/Again.js"
import { isAway, type StoreError, toInternalError } from "../../services/store/Store.js"
import * as Revoker from "./Revoker.js"

/** Returns the error for a credential that no running job holds. */
export const notHeld = () =>
  new InvalidRequest({
    message: "no running job holds that credential; job.accepted and job.subscribed list those of a job"
  })

/** Returns the error for a credential that is not outstanding. */
export const notOutstanding = (credentialId: string) =>
  new InternalError({
    message: `${cut(credentialId, 64)} is not outstanding: it is revoked, or a running job holds it`,
    details: { reason: "credentials" }
  })

/** Returns the error of a mint that its job did not wait for. */
export const jobEnded = () =>
  new InternalError({
    message: "the job ended while its credentials were provisioned",
    details: { reason: "credentials" }
  })

/** Returns the error of a mint for a job that another node has. */
export const jobMoved = () =>
  new InternalError({
    message: "another node has the job by now, and provisions its credentials",
    details: { reason: "credentials" }
  })

/** Returns what a client is told of a failure of the credential store. */
export const storage = toInternalError("the credential store failed")

/** Tells the operator's log, once for as long as a store is away that is asked again and again. */
export const warned = (error: InternalError, message = error.message): Effect.Effect<void> =>
  isAway(error) ? Again.once(Effect.logWarning(message)) : Effect.logWarning(message)

/** Tells the operator's log what the client is not told. */
export const failed = (error: StoreError): Effect.Effect<never, InternalError> => {
  const told = storage(error)
  return Effect.zipRight(warned(told, Revoker.cleanMessage(error.message)), told)
}

/** Returns what a client is told when no credential was provisioned. */
export const unprovisioned = (error: ProvisionError) =>
  new InternalError({
    message: Revoker.cleanMessage(`the job's credentials could not be provisioned: ${error.message}`),
    details: { reason: "credentials" }
  })

/** Returns what a client is told when the budget upstream is used up. */
export const exhausted = (error: ProvisionError) =>
  new BudgetExhausted({
    message: Revoker.cleanMessage(`no credential can be provisioned: ${error.message}`),
    details: { reason: "credentials" }
  })
