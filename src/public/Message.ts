/** What answers and listings hold, as it goes over the wire (§5). */
export { Accepted, AgentEntry, JobEntry, JobStatus, ListJobs, Subscribed } from "../protocol/Message.js"
