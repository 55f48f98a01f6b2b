import { currentTest } from "../support/currentTest.js"
import {
  cases,
  closeCodes,
  connections,
  everywhere,
  gateway,
  processes,
  programs,
  restarts,
  type Scope,
  sockets,
  stdio
} from "./transports.js"

export interface Requirement {
  /** Its source: the section of the protocol page, or `programs` for what only the shipped program promises. */
  readonly section: string
  readonly behaviour: string
  /** Where it holds, when not over every transport. Each of these is verified for itself. */
  readonly transports?: Scope
}

/**
 * What the suite holds the runtime to, as data. A test names what it verifies (`verifies`); a whole run fails for what
 * nobody verified (`test/support/Conformance.ts`).
 */
export const requirements = {
  "ids-tokens": {
    section: "3, 2",
    behaviour: "session ids are sess_<ulid>, resume tokens rt_ and 64 hex digits"
  },
  "envelope-version": {
    section: "2",
    behaviour: 'a session opened with "1", "1.0" or "1.1" is answered with the same string'
  },
  "envelope-version-unknown": { section: "2", behaviour: "any other version: INVALID_REQUEST and close" },
  "envelope-id-inbound": {
    section: "2",
    behaviour: "an inbound id is any non-empty string of at most 256 characters"
  },
  "envelope-id-outbound": {
    section: "2",
    behaviour: "an outbound id is a ULID with an optional prefix, unique per message"
  },
  "envelope-session-id": {
    section: "2",
    behaviour: "session_id is required on everything but hello, and set on errors before welcome"
  },
  "envelope-foreign-session": {
    section: "2",
    behaviour: "a session_id that is not this connection's is INVALID_REQUEST",
    transports: connections
  },
  "envelope-trace-id": {
    section: "2",
    behaviour: "trace_id is 32 lower-case hex digits, not all zero; minted when absent"
  },
  "envelope-traceparent": {
    section: "2",
    behaviour: "a full traceparent is accepted and reduced to its trace id"
  },
  "envelope-event-seq": {
    section: "2",
    behaviour: "event_seq is on job.event, job.result and job.error and nowhere else"
  },
  "envelope-extensions": { section: "2", behaviour: "extensions may hold optional and x-vendor keys" },
  "envelope-unknown-fields": { section: "2", behaviour: "unknown fields are ignored and never echoed" },
  "envelope-timestamps": { section: "2", behaviour: "timestamps are RFC 3339 UTC with a Z" },
  "unknown-type": {
    section: "2",
    behaviour: "an unknown type is INVALID_REQUEST and the session stays open"
  },
  "unknown-vendor-type": {
    section: "2",
    behaviour: "an optional vendor type is dropped silently, any other is INVALID_REQUEST"
  },
  "inbound-seq-ignored": {
    section: "2",
    behaviour: "nothing a client sends enters the event log or moves a sequence number"
  },
  "malformed-answer": {
    section: "2",
    behaviour: "a malformed frame is answered with one session.error INVALID_REQUEST"
  },
  "malformed-keeps-session": {
    section: "2",
    behaviour: "a malformed frame leaves the session and its jobs alive"
  },
  "malformed-names-path": { section: "2", behaviour: "the answer names the path that failed" },
  "malformed-no-echo": { section: "2", behaviour: "the answer never echoes a token or a payload value" },
  "malformed-message-length": { section: "2", behaviour: "error messages are at most 512 characters" },
  "malformed-flood": {
    section: "2",
    behaviour: "more than 20 malformed frames in 10 s close with 1008; the session stays resumable",
    transports: closeCodes
  },
  "malformed-prototype": { section: "2", behaviour: "__proto__ and constructor are data" },
  "malformed-unicode": { section: "2", behaviour: "any JSON string comes through a job" },
  "malformed-values": {
    section: "2",
    behaviour:
      "half a surrogate pair, or a number that JSON text can say and a double cannot, is INVALID_REQUEST"
  },
  "malformed-depth": { section: "2", behaviour: "JSON deeper than 64 levels is refused" },
  "frame-size": {
    section: "1",
    behaviour: "an inbound frame above 1 MiB closes with 1009",
    transports: closeCodes
  },
  "frame-size-hello": {
    section: "1",
    behaviour: "before welcome the limit is 64 KiB",
    transports: closeCodes
  },
  fairness: {
    section: "1",
    behaviour: "one job's traffic does not delay other sessions' pongs, accepts and cancels",
    transports: connections
  },
  "stdio-envelopes": { section: "1", behaviour: "stdout carries envelopes only", transports: stdio },
  "stdio-same-protocol": { section: "1", behaviour: "all transports behave identically", transports: stdio },
  "stdio-bom": {
    section: "1",
    behaviour: "a byte order mark before the first line is skipped",
    transports: stdio
  },
  "stdio-end-of-input": {
    section: "1",
    behaviour:
      "when stdin ends, running jobs get the shutdown grace, and their ends and session.bye are written",
    transports: stdio
  },
  "stdio-shutdown": {
    section: "1, 4.7",
    behaviour: "a shutdown over stdio gives jobs the grace, and says how they end and bye",
    transports: stdio
  },
  "stdio-resume": {
    section: "1, 4.3",
    behaviour: "a session resumes over stdio when the runtime is started again",
    transports: stdio
  },
  "welcome-shape": { section: "3", behaviour: "session.welcome carries what section 3 lists" },
  "auth-unauthenticated": {
    section: "4.1",
    behaviour: "a missing or unknown token: UNAUTHENTICATED, then close"
  },
  "auth-scheme": { section: "4.1", behaviour: "any scheme but bearer: INVALID_REQUEST" },
  "auth-before-hello": { section: "4.1", behaviour: "any frame before hello: INVALID_REQUEST and close" },
  "auth-second-hello": {
    section: "4.1",
    behaviour: "a second hello: INVALID_REQUEST, the session stays open"
  },
  "auth-malformed-hello": {
    section: "4.1",
    behaviour: "a malformed hello is answered with INVALID_REQUEST and closed"
  },
  "auth-slowed": {
    section: "4.1",
    behaviour: "failed logins are slowed down for their address, and for no other, also behind a proxy",
    transports: sockets
  },
  "token-ends": {
    section: "4.1",
    behaviour: "a session with renewal whose token ends gets UNAUTHENTICATED and is closed, by 4003"
  },
  "token-ends-resumable": {
    section: "4.1",
    behaviour:
      "a session whose token has ended resumes with a fresh one of its principal only, and its jobs run on",
    transports: connections
  },
  "token-ends-finish": {
    section: "4.1",
    behaviour:
      "without renewal every request is UNAUTHENTICATED once the token has ended, and the transport closes with its last job"
  },
  "token-ends-close": {
    section: "4.1",
    behaviour: "with tokenExpiry close the transport closes when the token ends, whatever runs"
  },
  "token-renewed-early": {
    section: "4.1",
    behaviour: "a session that resumes with a fresh token before the old one ends goes on beyond that",
    transports: connections
  },
  "negotiate-intersection": {
    section: "4.2",
    behaviour: "the effective feature set is the intersection of both lists"
  },
  "negotiate-none": {
    section: "4.2",
    behaviour: "a client that sends no features gets none",
    transports: connections
  },
  "negotiate-enforced": {
    section: "4.2",
    behaviour: "a request that needs a feature outside the set is INVALID_REQUEST"
  },
  "negotiate-credentials": {
    section: "4.2",
    behaviour: "provisioned_credentials is not advertised without provisioner and store"
  },
  "negotiate-agents": {
    section: "4.2",
    behaviour: "agents are inventories with agent_versions, else names",
    transports: connections
  },
  "resume-replay": {
    section: "4.3",
    behaviour: "a resume replays every later event in order, without gap or duplicate, then live ones",
    transports: connections
  },
  "resume-equal": {
    section: "4.3",
    behaviour: "last_event_seq equal to the highest assigned is valid and replays nothing",
    transports: connections
  },
  "resume-beyond": {
    section: "4.3",
    behaviour: "last_event_seq above the highest assigned is INVALID_REQUEST",
    transports: connections
  },
  "resume-evicted": {
    section: "4.3",
    behaviour: "last_event_seq older than what is retained is RESUME_WINDOW_EXPIRED",
    transports: connections
  },
  "resume-long": {
    section: "4.3",
    behaviour: "a replay is complete however long the backlog is",
    transports: connections
  },
  "resume-refused-alike": {
    section: "4.3",
    behaviour: "wrong principal, unknown session and wrong token get the same answer",
    transports: connections
  },
  "resume-bearer-first": {
    section: "4.3",
    behaviour: "the bearer token is verified before the resume",
    transports: connections
  },
  "resume-rotation": {
    section: "4.3",
    behaviour: "the token rotates; the old one is valid until the client used the resumed transport",
    transports: connections
  },
  "resume-supersedes": {
    section: "4.3",
    behaviour: "a resume closes a transport that is still attached with 4001",
    transports: connections
  },
  "resume-keeps-all": {
    section: "4.3",
    behaviour: "jobs, cancel authority and subscriptions continue",
    transports: connections
  },
  "resume-renegotiates": {
    section: "4.3",
    behaviour: "the feature set is renegotiated from the new hello",
    transports: connections
  },
  "resume-window": {
    section: "4.3",
    behaviour: "a session outlives its transport for the window and not longer",
    transports: connections
  },
  "jobs-ignore-detach": {
    section: "4.3",
    behaviour: "jobs keep running and emitting while nobody is attached",
    transports: connections
  },
  "event-id-stable": {
    section: "2",
    behaviour: "the id of an event message is the same on every replay",
    transports: connections
  },
  "drop-exactly-once": {
    section: "4.3",
    behaviour: "dropping the transport at any moment loses and doubles nothing",
    transports: sockets
  },
  "heartbeat-pings": {
    section: "4.4",
    behaviour: "a side that has sent nothing for an interval sends session.ping"
  },
  "heartbeat-pong": { section: "4.4", behaviour: "a ping is answered promptly, negotiated or not" },
  "heartbeat-lost": {
    section: "4.4",
    behaviour: "nothing inbound for two intervals closes the transport, never the job",
    transports: connections
  },
  "heartbeat-any-frame": { section: "4.4", behaviour: "any inbound frame counts as life" },
  "heartbeat-negotiated": { section: "4.4, 4.2", behaviour: "without the feature there are no heartbeats" },
  "ack-silent": { section: "4.5", behaviour: "an ack is advisory and goes up only", transports: connections },
  "ack-beyond": { section: "4.5", behaviour: "an ack beyond the highest assigned is INVALID_REQUEST" },
  "back-pressure-once": {
    section: "4.5",
    behaviour: "one back_pressure status per crossing, and not again until the lag has halved"
  },
  "slow-consumer": {
    section: "4.5",
    behaviour: "a stalled consumer grows no memory, slows nobody, keeps its session and drains",
    transports: processes
  },
  "list-order": {
    section: "4.6",
    behaviour: "jobs are listed oldest first, finished ones too",
    transports: connections
  },
  "list-entry": {
    section: "4.6",
    behaviour: "an entry has the fields of 4.6; last_event_seq is the submitter's",
    transports: connections
  },
  "list-paging": { section: "4.6", behaviour: "keyset pages meet every job once", transports: connections },
  "list-filter": {
    section: "4.6, 3",
    behaviour: "filters by status, agent and time",
    transports: connections
  },
  "list-invalid": {
    section: "4.6",
    behaviour: "a malformed cursor, status or limit is INVALID_REQUEST",
    transports: connections
  },
  "list-own-principal": {
    section: "4.6",
    behaviour: "only jobs the principal may observe are listed",
    transports: connections
  },
  "close-answered": {
    section: "4.7",
    behaviour: "session.close is answered with session.closed, then the transport closes",
    transports: connections
  },
  "close-bye": {
    section: "4.7",
    behaviour: "session.bye is not answered, the transport closes",
    transports: connections
  },
  "close-resumable": {
    section: "4.7",
    behaviour: "after either, jobs run on and the session is resumable",
    transports: connections
  },
  "shutdown-bye": {
    section: "4.7",
    behaviour: "a runtime that shuts down sends session.bye with reason shutdown",
    transports: processes
  },
  "shutdown-exit": { section: "programs", behaviour: "a graceful shutdown exits 0", transports: processes },
  "shutdown-grace": {
    section: "4.7",
    behaviour: "jobs get the shutdown grace, and no more",
    transports: processes
  },
  "shutdown-flushed": {
    section: "programs",
    behaviour: "the log is flushed before the exit",
    transports: processes
  },
  "shutdown-stops-accepting": {
    section: "programs",
    behaviour: "a runtime that shuts down gives no new sessions",
    transports: processes
  },
  "shutdown-second-signal": {
    section: "programs",
    behaviour: "a second signal exits at once",
    transports: processes
  },
  "cap-sessions": { section: "4.8", behaviour: "sessions per principal", transports: connections },
  "cap-jobs-session": { section: "4.8", behaviour: "concurrent jobs per session" },
  "cap-jobs-principal": {
    section: "4.8",
    behaviour: "concurrent jobs per principal",
    transports: connections
  },
  "cap-subscriptions": { section: "4.8", behaviour: "subscriptions per session", transports: connections },
  "cap-chunk": { section: "4.8", behaviour: "result chunk size" },
  "cap-hello-time": { section: "1", behaviour: "hello must arrive in time", transports: connections },
  "cap-pending-hellos": {
    section: "1",
    behaviour: "connections waiting for hello are bounded",
    transports: connections
  },
  "submit-accepted": {
    section: "5.1",
    behaviour: "job.accepted has the fields of section 3, the job runs and gives its result"
  },
  "submit-first-event": {
    section: "5.1",
    behaviour: "job.accepted precedes every event; the first is status running"
  },
  "submit-accept-order": { section: "3", behaviour: "accepts are sent in the order the submits arrived" },
  "submit-lease": { section: "5.1", behaviour: "the effective lease is what was requested" },
  "submit-rejected": {
    section: "5.1",
    behaviour: "a rejected submit is a terminal job.error on a fresh job id, never a session.error"
  },
  "submit-rejection-replayed": {
    section: "5.1",
    behaviour: "a rejection carries an event_seq and is replayed",
    transports: connections
  },
  "submit-same-id": {
    section: "5.1",
    behaviour: "a submit sent again starts nothing and gets the same answer"
  },
  "submit-invalid": { section: "5.1, 3", behaviour: "values outside the schema are INVALID_REQUEST" },
  durations: { section: "5.1", behaviour: "durations are correct up to years" },
  "agent-input": {
    section: "programs",
    behaviour: "input the agent cannot decode is a rejected submit naming the path"
  },
  "agent-reference": {
    section: "5.5",
    behaviour: "an agent reference that does not parse is INVALID_REQUEST"
  },
  "agent-versions": {
    section: "5.5",
    behaviour: "a bare name is the default version; the resolved one is fixed"
  },
  "agent-version-unknown": {
    section: "5.5",
    behaviour: "a known name with an unknown version names the available ones"
  },
  "idempotency-same": {
    section: "5.2",
    behaviour: "same key and parameters: the same accept, no second run"
  },
  "idempotency-observes": {
    section: "5.2",
    behaviour: "the submitting session observes the existing job",
    transports: connections
  },
  "idempotency-race": {
    section: "5.2",
    behaviour: "racing submits with one key start one run",
    transports: connections
  },
  "idempotency-scope": { section: "5.2", behaviour: "keys are scoped by principal", transports: connections },
  "idempotency-conflict": {
    section: "5.2",
    behaviour: "different parameters: DUPLICATE_KEY with existing_job_id"
  },
  "idempotency-rejected": { section: "5.2", behaviour: "a rejected submit does not occupy its key" },
  "idempotency-inherits": {
    section: "5.2",
    behaviour: "when the original session is gone, the next one becomes the owner",
    transports: connections
  },
  "job-one-terminal": { section: "5.3", behaviour: "exactly one terminal message per job, always its last" },
  "job-failure": { section: "5.3", behaviour: "failures and defects end in job.error without a stack trace" },
  "job-timeout": { section: "5.3", behaviour: "max_runtime_sec exceeded: TIMEOUT, timed_out" },
  "cancel-order": { section: "5.4", behaviour: "job.cancelled at once, finalizers may emit, then CANCELLED" },
  "cancel-payload-id": { section: "2", behaviour: "job_id is accepted inside the payload of job.cancel" },
  "cancel-grace": {
    section: "5.4",
    behaviour: "a stuck agent is given up after the grace; what it emits later is discarded"
  },
  "cancel-finished": {
    section: "5.4",
    behaviour: "cancelling a finished job is acknowledged and changes nothing"
  },
  "cancel-not-owner": {
    section: "5.4",
    behaviour: "not owner but permitted to observe: PERMISSION_DENIED",
    transports: connections
  },
  "cancel-not-found": { section: "5.4", behaviour: "otherwise JOB_NOT_FOUND", transports: connections },
  "refused-on-job": {
    section: "5.7",
    behaviour: "without the feature requests a refused cancel or subscribe is a job.error without event_seq",
    transports: connections
  },
  "welcome-limits": { section: "1", behaviour: "the welcome tells what frames may have" },
  "subscribe-first": {
    section: "5.6",
    behaviour: "the answer precedes any event of the job",
    transports: connections
  },
  "subscribe-answer": {
    section: "5.6",
    behaviour: "the answer has the fields of 5.6",
    transports: connections
  },
  "subscribe-join": {
    section: "5.6",
    behaviour: "history and live join without gap or duplicate",
    transports: connections
  },
  "subscribe-live": {
    section: "5.6",
    behaviour: "without history only new events arrive",
    transports: connections
  },
  "subscribe-from": {
    section: "5.6",
    behaviour: "from_event_seq is in the submitting session's numbering",
    transports: connections
  },
  "subscribe-input": {
    section: "3, 5.6",
    behaviour:
      "with x-vendor.effect-arcp.submitted_input the answer to a subscribe has the input of a job that the subscriber's token covers",
    transports: connections
  },
  "session-transient": {
    section: "3, 5.4",
    behaviour:
      "a session with x-vendor.effect-arcp.transient ends with its connection, and any of its principal that covers its jobs may cancel them",
    transports: connections
  },
  "session-unobserved": {
    section: "3, 5.1",
    behaviour:
      "a session with x-vendor.effect-arcp.unobserved is sent accepts and refusals, and events only of what it subscribes to"
  },
  "subscribe-finished": {
    section: "5.6",
    behaviour: "a finished job gives history and its terminal message",
    transports: connections
  },
  "subscribe-own-seq": {
    section: "5.6",
    behaviour: "events arrive in the subscriber's own numbering",
    transports: connections
  },
  "subscribe-invalid": { section: "5.7", behaviour: "a malformed subscribe is INVALID_REQUEST" },
  "subscribe-not-found": {
    section: "5.6",
    behaviour: "not permitted and not known: JOB_NOT_FOUND",
    transports: connections
  },
  unsubscribe: {
    section: "5.6",
    behaviour: "job.unsubscribe is silent and idempotent",
    transports: connections
  },
  "refusal-shape": {
    section: "5.7",
    behaviour: "a refused request is one session.error with details.request_id"
  },
  "events-order": { section: "6", behaviour: "events of a job are delivered in the order they were emitted" },
  "stream-chunks": { section: "6", behaviour: "chunks in order, more: false on the last" },
  "stream-result": {
    section: "6",
    behaviour: "then job.result with result_id and result_size and no result"
  },
  "stream-not-negotiated": {
    section: "4.2",
    behaviour: "no result_chunk for a session that did not negotiate it"
  },
  "restart-resume": {
    section: "programs",
    behaviour: "sessions resume after a restart on SQLite",
    transports: restarts
  },
  "restart-running": {
    section: "5.3",
    behaviour: "jobs that were running end in INTERNAL_ERROR runtime_restart",
    transports: processes
  },
  "durable-recovers": {
    section: "12.1",
    behaviour: "jobs of durable agents go on after the end of their process, in the same log and session",
    transports: processes
  },
  "durable-steps-once": {
    section: "12.1",
    behaviour: "the outcome of a step is committed once, and its events come once and in order",
    transports: processes
  },
  "durable-spend": {
    section: "12.1",
    behaviour: "what the attempts of a durable job have spent is counted exactly",
    transports: processes
  },
  "durable-ends": {
    section: "12.1",
    behaviour: "a durable job's deadline and cancel hold across the end of its process",
    transports: processes
  },
  "pending-place": {
    section: "4.8",
    behaviour: "what is above the concurrency waits as pending and begins oldest first"
  },
  "pending-time": {
    section: "5.1",
    behaviour: "a scheduled job is accepted at once, begins at its time, and can be cancelled before"
  },
  "pending-restart": {
    section: "12",
    behaviour: "jobs that have not begun do so in the next process, once and in their order",
    transports: processes
  },
  "submit-rate": {
    section: "4.8",
    behaviour: "a principal that submits too often is told when to come again"
  },
  "durable-unloads": {
    section: "12.1",
    behaviour:
      "a durable job that only waits is a row: it survives as that, ends as that, and goes on when it is due",
    transports: processes
  },
  "durable-fork": {
    section: "12.1",
    behaviour: "a job goes on from another: it takes over the steps committed before one, and nothing later",
    transports: processes
  },
  "durable-fork-refused": {
    section: "12.1",
    behaviour:
      "a fork is refused to others, for more authority, of an unknown step, and of what has no steps",
    transports: processes
  },
  "input-asked": {
    section: "12.2",
    behaviour:
      "a question is an event, with the SHA-256 of the canonical JSON of what it is about; its end is one too, whatever it is"
  },
  "input-answered": {
    section: "12.2",
    behaviour:
      "an answer is acknowledged when it is stored, once; the same again is accepted again, another refused"
  },
  "input-refused": {
    section: "12.2",
    behaviour: "what is no answer is refused with its reason, and leaves the question open"
  },
  "input-expires": {
    section: "12.2",
    behaviour: "a question that nobody answers in time is closed, and takes no answer after that"
  },
  "input-who": {
    section: "12.2",
    behaviour: "sessions of the job's principal answer whose token covers it; others are told of nothing",
    transports: connections
  },
  "input-listed": {
    section: "12.2",
    behaviour: "what a job waits for is in listings and in the answer to a subscribe",
    transports: connections
  },
  "input-feature": {
    section: "12.2",
    behaviour: "a session without the feature sees the events, and may not answer"
  },
  "input-restart": {
    section: "12.2",
    behaviour:
      "a question is the same one after the end of the process, and an answer that was acknowledged stands",
    transports: processes
  },
  "hooks-owed": {
    section: "programs",
    behaviour:
      "a webhook is told of the end of a job at least once, also by the next process, under one id and signed",
    transports: processes
  },
  "restart-idempotency": {
    section: "5.2",
    behaviour: "idempotency keys survive a restart",
    transports: processes
  },
  "restart-list": {
    section: "programs",
    behaviour: "finished jobs are listed after a restart",
    transports: processes
  },
  "persist-before-send": {
    section: "programs",
    behaviour: "nothing that was sent is missing after a crash",
    transports: processes
  },
  "trace-context": {
    section: "9",
    behaviour:
      "a submit's tracecontext gives its trace; the accept has the context of the job's span, in that trace, with its flag and tracestate"
  },
  "trace-context-ignored": {
    section: "9",
    behaviour:
      "a tracecontext that is malformed, or of another trace than trace_id, is ignored and not answered"
  },
  "errors-table": { section: "10", behaviour: "every error has a code of section 10 with its retryable" },
  "security-indistinguishable": {
    section: "11",
    behaviour: "not yours and not there are answered alike",
    transports: connections
  },
  "security-origin": {
    section: "11",
    behaviour: "a browser of another origin is refused",
    transports: sockets
  },
  "security-host": { section: "11", behaviour: "a rebound Host is refused on loopback", transports: sockets },
  "security-reset": {
    section: "1",
    behaviour: "a reset during the upgrade harms nobody",
    transports: sockets
  },
  "store-locked": {
    section: "programs",
    behaviour: "a second process on one database refuses to start",
    transports: processes
  },
  "store-corrupt": {
    section: "programs",
    behaviour: "a corrupt database is refused and not overwritten",
    transports: processes
  },
  "store-newer": {
    section: "programs",
    behaviour: "a newer schema is refused and not touched",
    transports: processes
  },
  "store-unreadable": {
    section: "programs",
    behaviour: "an unreadable database is refused with a message",
    transports: processes
  },
  "store-full": {
    section: "programs",
    behaviour: "a full disk fails jobs, not the process; nothing uncommitted is sent",
    transports: processes
  },
  "serve-port": {
    section: "programs",
    behaviour: "a port in use is refused with a message",
    transports: programs
  },
  "serve-flags": { section: "programs", behaviour: "invalid flags are refused", transports: programs },
  "serve-agents": {
    section: "programs",
    behaviour: "an agent module that does not load is named",
    transports: programs
  },
  "lease-grammar": {
    section: "7",
    behaviour:
      "capabilities are the reserved ones or x-vendor.<vendor>.<name> with texts as patterns; any other lease is INVALID_REQUEST",
    transports: cases
  },
  "lease-budget-grammar": {
    section: "7",
    behaviour: 'a budget is currency ":" digits ["." digits]; anything else is INVALID_REQUEST',
    transports: cases
  },
  "lease-constraints": {
    section: "7",
    behaviour: "expires_at is RFC 3339 in UTC with a Z and in the future, else INVALID_REQUEST",
    transports: cases
  },
  "lease-negotiated": {
    section: "4.2",
    behaviour: "budgets, models and expiry are offered, and refused in a session that did not negotiate them",
    transports: cases
  },
  "lease-echoed": {
    section: "4.6, 5.1, 5.6",
    behaviour: "the effective lease and its constraints are in the accept, in listings and in job.subscribed",
    transports: cases
  },
  "lease-patterns-names": {
    section: "7",
    behaviour: "* matches within a segment and ** any number of them; anchored, and nothing else is special",
    transports: cases
  },
  "lease-paths": {
    section: "7",
    behaviour: "paths are absolute and canonical before they are matched; NUL is refused",
    transports: cases
  },
  "lease-path-links": {
    section: "7",
    behaviour: "the real path is checked too: links do not lead out of the lease",
    transports: cases
  },
  "lease-path-oracle": {
    section: "11",
    behaviour: "what is outside of the lease looks the same whether it is there or not",
    transports: cases
  },
  "lease-urls": {
    section: "7",
    behaviour: "URLs are canonical before they are matched; * crosses no / and, in the host, no dot",
    transports: cases
  },
  "lease-linear": {
    section: "7",
    behaviour: "matching is linear in the input whatever the pattern",
    transports: cases
  },
  "lease-models": {
    section: "7",
    behaviour: "a model outside of model.use is PERMISSION_DENIED, as is any without model.use",
    transports: cases
  },
  "lease-denial": {
    section: "7",
    behaviour:
      "a denial is a tool_result with the error under the operation's call_id and does not end the job",
    transports: cases
  },
  "lease-order": {
    section: "7",
    behaviour: "an operation is checked for expiry, then budget, then pattern",
    transports: cases
  },
  "lease-expiry-interrupts": {
    section: "7",
    behaviour: "when the lease expires the job is interrupted and ends in LEASE_EXPIRED",
    transports: cases
  },
  "lease-expiry-grace": {
    section: "7",
    behaviour: "a stuck agent is given up after the cancel grace",
    transports: cases
  },
  "lease-expiry-operation": {
    section: "7",
    behaviour: "an operation after expiry fails with LEASE_EXPIRED, and the job ends in it",
    transports: cases
  },
  "idempotency-lease": {
    section: "5.2",
    behaviour: "another lease or constraint under the same key is DUPLICATE_KEY",
    transports: cases
  },
  "budget-shown": {
    section: "3, 5.6",
    behaviour: "budget is in the accept, and in job.subscribed as it is now",
    transports: cases
  },
  "budget-exact": { section: "7", behaviour: "arithmetic is exact decimal", transports: cases },
  "budget-entries-add": {
    section: "7",
    behaviour: "several entries of one currency add up",
    transports: cases
  },
  "budget-crossing": {
    section: "7",
    behaviour: "the cost that crosses the line is delivered; every later operation is BUDGET_EXHAUSTED",
    transports: cases
  },
  "budget-remaining": {
    section: "7",
    behaviour: "cost.budget.remaining is sent at each 5 % and at zero, with what is left",
    transports: cases
  },
  "budget-negative": {
    section: "7",
    behaviour: "negative and non-finite costs fail the emit and change nothing",
    transports: cases
  },
  "budget-currencies": {
    section: "7",
    behaviour: "only cost metrics in a budgeted currency are counted, each by its own counter",
    transports: cases
  },
  "budget-concurrent": {
    section: "7",
    behaviour: "many that spend at once overspend by no more than what was in flight",
    transports: cases
  },
  "budget-restart": {
    section: "7",
    behaviour: "after kill -9 the counters are the initial amounts less the costs in the log",
    transports: processes
  },
  "delegate-accepted": {
    section: "8",
    behaviour: "a delegated job is accepted with parent_job_id, delegate_id and the parent's trace_id",
    transports: cases
  },
  "delegate-event": {
    section: "8",
    behaviour: "the delegate event on the parent comes before anything of the child",
    transports: cases
  },
  "delegate-result": {
    section: "8",
    behaviour: "the parent learns the child's result, or its failure as a typed error",
    transports: cases
  },
  "delegate-permission": {
    section: "8",
    behaviour: "without agent.delegate for the child's name: PERMISSION_DENIED under the delegate_id",
    transports: cases
  },
  "delegate-unavailable": {
    section: "8",
    behaviour: "an unknown agent or version, and input it does not take, are errors of the delegation",
    transports: cases
  },
  "delegate-subset": {
    section: "7",
    behaviour:
      "a child lease beyond the parent's is LEASE_SUBSET_VIOLATION as a tool_result under the delegate_id; the parent goes on",
    transports: cases
  },
  "delegate-expiry": {
    section: "7",
    behaviour: "the parent's expiry is inherited, and no later one is granted",
    transports: cases
  },
  "delegate-budget": {
    section: "7",
    behaviour: "a child's budget is at most what remains of the parent's",
    transports: cases
  },
  "delegate-ancestors": {
    section: "7",
    behaviour: "what a child spends is counted against every ancestor",
    transports: cases
  },
  "delegate-tree": {
    section: "7",
    behaviour: "a tree of jobs never spends more than its root was given and what was in flight",
    transports: cases
  },
  "delegate-cancel": {
    section: "5.4",
    behaviour: "children are cancelled with their parent, leaves first",
    transports: cases
  },
  "delegate-cancel-child": {
    section: "5.4, 8",
    behaviour: "a cancelled child is an error that its parent learns",
    transports: cases
  },
  "delegate-ends": {
    section: "8",
    behaviour: "no child outlives its parent, however that ends",
    transports: cases
  },
  "delegate-depth": {
    section: "8",
    behaviour: "delegation ends at 16 levels with INTERNAL_ERROR and details.limit",
    transports: cases
  },
  "delegate-fan-out": {
    section: "8",
    behaviour: "a job has at most 100 children at once, then INTERNAL_ERROR with details.limit",
    transports: cases
  },
  "delegate-shown": {
    section: "4.6, 5.6",
    behaviour: "parent_job_id is in listings and in job.subscribed",
    transports: cases
  },
  "delegate-replayed": {
    section: "4.3, 8",
    behaviour: "a resume replays parent and children in their order",
    transports: cases
  },
  "delegate-restart": {
    section: "5.3, 8",
    behaviour: "after kill -9 every job of the tree ends once, and the counters are what the logs say",
    transports: processes
  },
  "ceiling-reduces": {
    section: "5.1",
    behaviour: "a lease is reduced to the identity's ceiling, never expanded, and shown as it is",
    transports: cases
  },
  "ceiling-budget": { section: "5.1", behaviour: "a budget is bounded by the ceiling's", transports: cases },
  "ceiling-delegation": {
    section: "5.1, 7",
    behaviour: "what is delegated stays under the ceiling",
    transports: cases
  },
  "ceiling-agents": {
    section: "4.2, 8",
    behaviour: "an identity delegates only to the agents it may use",
    transports: cases
  },
  "ceiling-file": {
    section: "programs",
    behaviour: "a file gives each token its principal, agents and ceiling; a bad one is refused",
    transports: programs
  },
  "subscribe-audit": {
    section: "5.6",
    behaviour: "every decision about a subscription is logged with subscriber, job, owner and verdict",
    transports: programs
  },
  "credentials-offered": {
    section: "4.2",
    behaviour:
      "provisioned_credentials is offered with a provisioner and a durable store, and used only when negotiated",
    transports: gateway
  },
  "credentials-minted": {
    section: "7",
    behaviour: "credentials are minted before the accept and never reused across jobs",
    transports: gateway
  },
  "credentials-shape": {
    section: "7",
    behaviour: "a credential is {id, scheme, value, endpoint, profile?, constraints?}",
    transports: gateway
  },
  "credentials-shown": {
    section: "5.6, 7",
    behaviour: "credentials are shown only to the submitter while the job runs, and never listed",
    transports: gateway
  },
  "credentials-secret": {
    section: "7, 11",
    behaviour: "no credential in logs, events or on disk",
    transports: gateway
  },
  "credentials-revoked": {
    section: "7",
    behaviour: "credentials are revoked however the job ends",
    transports: gateway
  },
  "credentials-revoke-retried": {
    section: "7",
    behaviour: "a revocation that fails is tried again",
    transports: gateway
  },
  "credentials-restart": {
    section: "7",
    behaviour: "after kill -9 the next start revokes what was alive or being minted",
    transports: gateway
  },
  "credentials-mint-failed": {
    section: "5.1, 7",
    behaviour: "when nothing can be minted the submit is refused, and nothing is left alive",
    transports: gateway
  },
  "credentials-rotation": {
    section: "7",
    behaviour: "a rotation is a status event to the submitter with id and value; the old value is revoked",
    transports: gateway
  },
  "credentials-delegated": {
    section: "7, 8",
    behaviour: "a delegated job has its own credentials",
    transports: gateway
  }
} as const satisfies Record<string, Requirement>

export type RequirementId = keyof typeof requirements

/**
 * Says which requirements the running test verifies; counted when the test has run and passed. Skips the test where one
 * of them does not hold: over stdio, for example.
 */
export const verifies = (...ids: ReadonlyArray<RequirementId>): void => {
  const test = currentTest()
  if (test === undefined) throw new Error("verifies() belongs into the body of a test")
  for (const id of ids) {
    const requirement: Requirement | undefined = requirements[id]
    if (requirement === undefined) throw new Error(`unknown requirement ${id}`)
    const { on, why } = requirement.transports ?? everywhere
    if (!on.includes(test.transport)) test.skip(why)
  }
  for (const id of ids) test.verified.push({ id, transport: test.transport })
}
