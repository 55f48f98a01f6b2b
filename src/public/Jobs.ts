/** The jobs of a runtime, for what wraps them. */
export {
  type CancelRequest,
  type JobSession,
  Jobs,
  type Outgoing,
  type SubmitRequest,
  type SubscribeRequest
} from "../services/jobs/Jobs.js"
