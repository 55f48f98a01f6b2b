/** What both entries of `effect-arcp/promise` have in common. */
export { isRetryable } from "../layers/client/ArcpClient.js"
export { fork } from "../layers/client/forking.js"
export { later } from "../layers/client/later.js"
export type { Body, Kind } from "../protocol/Event.js"
export type { Lease, LeaseConstraints } from "../protocol/Lease.js"
export type { AgentEntry, JobEntry, Subscribed } from "../protocol/Message.js"
export * as Errors from "../public/Errors.js"
export {
  type AnswerOptions,
  type ClientError,
  type EventOf,
  type Gap,
  type InputRequest,
  type JobEvent,
  type Known,
  type ListOptions,
  type OtherEvent,
  ProtocolViolation,
  RequestTimeout,
  type ResultFile,
  type ResumeState,
  type Status,
  TokenUnavailable
} from "../services/client/ArcpClient.js"
export { TransportError } from "../services/transport/Transport.js"
export { type Credential, Detached, type Job } from "./Job.js"
export type { Live } from "./Live.js"
export type { ByDialer, ByUrl, ConnectOptions, Storage } from "./options.js"
export type { Session, SubmitOptions, SubscribeOptions } from "./Session.js"
