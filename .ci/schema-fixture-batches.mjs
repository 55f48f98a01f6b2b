/** What the stores of the fixtures hold: a few jobs, sessions and events, as batches. What a migration brings is added here. */
const job = (jobId, more = {}) => ({
  jobId,
  sessionId: "sess_a",
  submitId: `submit-${jobId}`,
  principal: "alice",
  agent: "echo@1.0.0",
  status: "running",
  rejected: false,
  lease: { "fs.read": ["/src/**"] },
  traceId: "4bf92f3577b34da6a3ce929d0e0e4736",
  createdAt: 1000,
  lastEventSeq: 0,
  ...more
})
const session = (sessionId, more = {}) => ({
  sessionId,
  principal: "alice",
  version: "1.1",
  features: ["ack", "heartbeat"],
  createdAt: 1000,
  lastSeenAt: 2000,
  attached: true,
  tokenDigest: "digest",
  acked: 0,
  ...more
})
/** `ownerSeq` is what the first schemas of each kind kept with an event; the later ones do not look at it. */
const events = (from, to, numbered = 100) =>
  Array.from({ length: to - from + 1 }, (_, i) => ({
    seq: from + i,
    type: "job.event",
    kind: "log",
    ownerSeq: numbered + from + i,
    payload: `{"kind":"log","n":${from + i}}`
  }))
const run = (eventSeq, count, jobId, jobSeq) => ({ eventSeq, jobId, jobSeq, count, bytes: count * 100 })

/** Each is committed as a whole. */
export const batches = [
  [
    { _tag: "PutJob", job: job("job_a", { idempotencyKey: "nightly", budget: { USD: "1.50" } }) },
    { _tag: "PutJob", job: job("job_b") },
    { _tag: "PutJob", job: job("job_r", { rejected: true, status: "error", endedAt: 1500 }) },
    { _tag: "PutSession", session: session("sess_a") },
    {
      _tag: "PutSession",
      session: session("sess_b", { principal: "bob", tokenDigest: "old", issuedTokenDigests: ["new"] })
    },
    { _tag: "Observe", sessionId: "sess_b", jobId: "job_a", cursor: 23 },
    { _tag: "Append", jobId: "job_a", events: events(1, 20) },
    { _tag: "Append", jobId: "job_b", events: events(1, 5) },
    { _tag: "PutRun", sessionId: "sess_a", run: run(1, 20, "job_a", 1) },
    { _tag: "PutRun", sessionId: "sess_a", run: run(21, 5, "job_b", 1) },
    { _tag: "PutRun", sessionId: "sess_b", run: run(1, 15, "job_a", 6) },
    { _tag: "Alive", at: 3000 },
    { _tag: "PutInput", jobId: "job_a", input: '{"name":"Ada"}' },
    {
      _tag: "PutJournal",
      jobId: "job_a",
      entries: [{ kind: "step", key: "one", ordinal: 1, about: '{"n":1}', value: '"done"' }]
    },
    {
      _tag: "PutJob",
      job: job("job_w", {
        epoch: 3,
        survival: {
          restart: "steps",
          identity: {},
          features: [],
          attempt: 1,
          deaths: 0,
          progress: 0,
          waiting: { dueAt: 9000, sleepingUntil: 9000 }
        }
      })
    },
    { _tag: "PutHookEvent", event: { jobId: "job_a", seq: 3, text: '{"x":1}' } },
    {
      _tag: "PutWish",
      wish: { id: "wish_a", jobId: "job_a", kind: "cancel", body: "{}", from: "b", at: 2000 }
    }
  ],
  [
    { _tag: "Append", jobId: "job_a", events: events(21, 25) },
    { _tag: "PutRun", sessionId: "sess_a", run: run(26, 5, "job_a", 21) },
    { _tag: "TrimJob", jobId: "job_a", seq: 4 },
    { _tag: "TrimSession", sessionId: "sess_a", eventSeq: 6 },
    { _tag: "PutJob", job: job("job_b", { status: "success", endedAt: 2500, lastEventSeq: 25 }) },
    // A session that goes, and leaves the numbers of its job.
    { _tag: "PutSession", session: session("sess_g") },
    { _tag: "PutJob", job: job("job_g", { sessionId: "sess_g" }) },
    { _tag: "Append", jobId: "job_g", events: events(1, 2, 30) },
    { _tag: "PutRun", sessionId: "sess_g", run: run(31, 2, "job_g", 1) }
  ],
  [
    {
      _tag: "PutJob",
      job: job("job_g", { sessionId: "sess_g", status: "success", endedAt: 2500, lastEventSeq: 2 })
    },
    { _tag: "DropSession", sessionId: "sess_g" },
    { _tag: "Lose", sessionId: "sess_a" }
  ]
]

/** Records of credentials, which Postgres keeps beside them. */
export const credentials = [
  {
    id: "cred_a",
    credentialId: "cred_0",
    jobId: "job_a",
    principal: "alice",
    state: "active",
    endpoint: "https://models.example",
    reference: "ab12",
    createdAt: 1000,
    updatedAt: 2000,
    attempts: 1,
    lastError: "it is down",
    node: "a",
    epoch: 3
  },
  {
    id: "cred_b",
    credentialId: "cred_b",
    jobId: "job_b",
    principal: "alice",
    state: "minting",
    createdAt: 1500,
    updatedAt: 1500,
    unsettledUntil: 9000,
    attempts: 0
  }
]
