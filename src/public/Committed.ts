/** What a runtime commits, for metrics, audit and whatever else has to see every job. */
export {
  Committed,
  type CommittedEvent,
  type CommittedJob,
  type Consumer,
  consumer,
  type Options,
  type Subscription
} from "../services/log/Committed.js"
