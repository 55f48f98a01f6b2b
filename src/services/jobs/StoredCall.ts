/** Calls of hooks, as a store has them. */
import type { EndedCall, ParkedCall, WaitingCall } from "./Hooks.js"

/** What is not stored of a call, since it is found by it, or read from it when the call is made. */
type Found = "id" | "jobId" | "payload"

/** A call as it is stored, without what the store finds it by. */
export type StoredCall = Omit<WaitingCall, Found> | Omit<EndedCall, Found> | Omit<ParkedCall, Found>
