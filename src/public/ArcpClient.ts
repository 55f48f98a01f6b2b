/** The client: submits jobs, follows them through any number of connections, and gives their results. */
export { isRetryable, layer, make, type Options, retrySchedule } from "../layers/client/ArcpClient.js"
export { fork } from "../layers/client/forking.js"
export { later } from "../layers/client/later.js"
export {
  type AnswerOptions,
  ArcpClient,
  type ArcpClientService,
  type ClientError,
  type EventOf,
  type Gap,
  type InputRequest,
  type JobCredential,
  type JobEvent,
  type JobHandle,
  type Known,
  type Latest,
  type ListOptions,
  type OtherEvent,
  ProtocolViolation,
  RequestTimeout,
  type ResultFile,
  type ResumeState,
  type Status,
  type SubmitMethod,
  type SubmitOptions,
  type Token,
  type TokenSource,
  TokenUnavailable
} from "../services/client/ArcpClient.js"
