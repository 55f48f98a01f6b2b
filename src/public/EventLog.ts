/** The event log of a runtime, for what wraps it or reads it. */
export {
  EventLog,
  type JobLog,
  type NewEvent,
  type Page,
  type Secret,
  type View
} from "../services/log/EventLog.js"
