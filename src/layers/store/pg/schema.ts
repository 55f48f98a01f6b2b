/**
 * The tables of a store in Postgres, as a list of migrations; each is run once, in order, all in one transaction.
 *
 * Names are compared by their bytes (`COLLATE "C"`), as in every other store. What is counted in milliseconds or in events is
 * `bigint`, and read as `float8`, which clients give as a number: nothing here is above 2^53.
 */

/** What each version adds to the one before. Names in braces get the prefix of the store. */
export const migrations: ReadonlyArray<ReadonlyArray<string>> = [
  [
    // Blocks of keys: a writer gives out those of a block by itself.
    `CREATE SEQUENCE {job_ids} AS bigint INCREMENT BY 1024`,
    `CREATE TABLE {jobs} (
      id bigint PRIMARY KEY,
      job_id text COLLATE "C" NOT NULL UNIQUE,
      session_id text COLLATE "C" NOT NULL,
      submit_id text COLLATE "C" NOT NULL,
      principal text COLLATE "C" NOT NULL,
      idempotency_key text COLLATE "C",
      agent text COLLATE "C" NOT NULL,
      status text COLLATE "C" NOT NULL,
      rejected boolean NOT NULL,
      created_at bigint NOT NULL,
      ended_at bigint,
      due_at bigint,
      trace_id text COLLATE "C" NOT NULL,
      parent_job_id text COLLATE "C",
      record text NOT NULL,
      first bigint NOT NULL DEFAULT 1,
      epoch bigint NOT NULL DEFAULT 1
    )`,
    `CREATE INDEX {jobs_by_submit} ON {jobs} (session_id, submit_id)`,
    `CREATE INDEX {jobs_by_key} ON {jobs} (principal, idempotency_key) WHERE idempotency_key IS NOT NULL`,
    `CREATE INDEX {jobs_by_creation} ON {jobs} (created_at, job_id) WHERE NOT rejected`,
    `CREATE INDEX {jobs_by_status} ON {jobs} (status, created_at, job_id) WHERE NOT rejected`,
    `CREATE INDEX {jobs_by_principal} ON {jobs} (principal, created_at, job_id) WHERE NOT rejected`,
    `CREATE INDEX {jobs_by_end} ON {jobs} (ended_at, id) WHERE ended_at IS NOT NULL`,
    `CREATE INDEX {jobs_by_principal_end} ON {jobs} (principal, ended_at, id) WHERE ended_at IS NOT NULL`,
    `CREATE INDEX {jobs_by_due} ON {jobs} (due_at, job_id) WHERE due_at IS NOT NULL`,
    // What is weighed is in the index, so that weighing a log reads no payloads. They are short, and JSON: TOAST only tries
    // to compress what is long.
    `CREATE TABLE {events} (
      job bigint NOT NULL,
      seq bigint NOT NULL,
      bytes integer NOT NULL,
      owner_seq bigint NOT NULL,
      type text COLLATE "C" NOT NULL,
      kind text COLLATE "C" NOT NULL,
      audience text COLLATE "C",
      payload text COLLATE "C" NOT NULL,
      PRIMARY KEY (job, seq) INCLUDE (bytes)
    )`,
    // What is still to be deleted of a job: events before a number; everything of one that was dropped.
    `CREATE TABLE {event_trims} (job bigint PRIMARY KEY, before bigint NOT NULL)`,
    `CREATE TABLE {sessions} (session_id text COLLATE "C" PRIMARY KEY, record text NOT NULL,
      need bigint, epoch bigint NOT NULL DEFAULT 1)`,
    `CREATE TABLE {runs} (
      session_id text COLLATE "C" NOT NULL,
      event_seq bigint NOT NULL,
      job_id text COLLATE "C" NOT NULL,
      job_seq bigint NOT NULL,
      count bigint NOT NULL,
      bytes bigint NOT NULL,
      PRIMARY KEY (session_id, event_seq)
    ) WITH (fillfactor = 80)`,
    `CREATE INDEX {runs_by_job} ON {runs} (job_id, session_id, event_seq)`,
    `CREATE TABLE {run_trims} (
      session_id text COLLATE "C" PRIMARY KEY,
      before bigint NOT NULL,
      freed bigint NOT NULL DEFAULT 0
    )`,
    `CREATE INDEX {run_trims_pending} ON {run_trims} (session_id) WHERE freed < before`,
    `CREATE TABLE {observers} (
      session_id text COLLATE "C" NOT NULL,
      job_id text COLLATE "C" NOT NULL,
      PRIMARY KEY (session_id, job_id)
    )`,
    `CREATE INDEX {observers_by_job} ON {observers} (job_id)`,
    `CREATE TABLE {inputs} (job bigint PRIMARY KEY, input text COLLATE "C" NOT NULL)`,
    `CREATE TABLE {journal} (
      job bigint NOT NULL,
      kind text COLLATE "C" NOT NULL,
      key text COLLATE "C" NOT NULL,
      ordinal bigint NOT NULL,
      about text COLLATE "C" NOT NULL,
      size bigint,
      value text COLLATE "C",
      PRIMARY KEY (job, kind, key)
    )`,
    `CREATE TABLE {hook_events} (
      job_id text COLLATE "C" NOT NULL,
      seq bigint NOT NULL,
      text text COLLATE "C" NOT NULL,
      PRIMARY KEY (job_id, seq)
    )`,
    `CREATE TABLE {runtime} (id integer PRIMARY KEY CHECK (id = 0), alive_at bigint NOT NULL)`
  ],
  [
    // Runs over jobs that were dropped or trimmed: what such a job's owner has numbered of it stays until then.
    `CREATE TABLE {run_drops} (
      job_id text COLLATE "C" NOT NULL,
      session_id text COLLATE "C" NOT NULL,
      PRIMARY KEY (job_id, session_id)
    )`,
    // Each event had its number in its owner's view. Runs are made of those whose own are gone, with their session or
    // because it had lost them: of events that follow each other in both numberings.
    "DELETE FROM {runs} r WHERE NOT EXISTS (SELECT 1 FROM {sessions} s WHERE s.session_id = r.session_id)",
    `INSERT INTO {runs} (session_id, event_seq, job_id, job_seq, count, bytes)
     WITH lost AS (
       SELECT j.id, j.job_id, j.session_id, j.first, CASE WHEN s.session_id IS NULL THEN 9007199254740991 ELSE
         coalesce((SELECT min(event_seq) FROM {runs} WHERE session_id = j.session_id), 0) END AS low
       FROM {jobs} j LEFT JOIN {sessions} s ON s.session_id = j.session_id
       WHERE s.session_id IS NULL OR EXISTS (SELECT 1 FROM {run_trims} t WHERE t.session_id = j.session_id)
     ), told AS (
       SELECT l.job_id, l.session_id, l.low, e.seq, e.owner_seq,
         lag(e.owner_seq, 1, 0::bigint) OVER (PARTITION BY l.job_id ORDER BY e.seq) AS before
       FROM lost l JOIN {events} e ON e.job = l.id AND e.seq >= l.first
     ), placed AS (
       SELECT job_id, session_id, seq, owner_seq, row_number() OVER (PARTITION BY job_id ORDER BY seq) AS place
       FROM told WHERE owner_seq > before AND owner_seq < low
     )
     SELECT session_id, min(owner_seq), job_id, min(seq), count(*), 0 FROM placed
     GROUP BY job_id, session_id, seq - place, owner_seq - place
     ON CONFLICT DO NOTHING`,
    `INSERT INTO {run_trims} (session_id, before, freed)
     SELECT DISTINCT r.session_id, 9007199254740991, 9007199254740991 FROM {runs} r
     WHERE NOT EXISTS (SELECT 1 FROM {sessions} s WHERE s.session_id = r.session_id)
     ON CONFLICT DO NOTHING`,
    "ALTER TABLE {events} DROP COLUMN owner_seq"
  ],
  [
    // How far a session has come with a job, where its last run of it leads no further; and what it had not come to is gone.
    `ALTER TABLE {observers} ADD COLUMN cursor bigint NOT NULL DEFAULT 0`,
    `ALTER TABLE {sessions} ADD COLUMN lost boolean NOT NULL DEFAULT false`,
    `DELETE FROM {observers} o WHERE NOT EXISTS (
       SELECT 1 FROM {jobs} j WHERE j.job_id = o.job_id AND j.ended_at IS NULL)`,
    `UPDATE {observers} o SET cursor = coalesce((SELECT max(e.seq) FROM {events} e
       WHERE e.job = (SELECT id FROM {jobs} j WHERE j.job_id = o.job_id)), 0)`
  ],
  [
    `CREATE TABLE {nodes} (
      name text COLLATE "C" PRIMARY KEY,
      incarnation text COLLATE "C" NOT NULL,
      address text COLLATE "C",
      version text COLLATE "C" NOT NULL,
      started timestamptz NOT NULL,
      alive timestamptz NOT NULL,
      expires timestamptz NOT NULL
    ) WITH (fillfactor = 50)`
  ],
  [
    // Ascends with the commits of a job and of what it delegates to: each waits for the answer of the one before.
    `CREATE SEQUENCE {batches} AS bigint`,
    `ALTER TABLE {events} ADD COLUMN batch bigint NOT NULL DEFAULT 0`
  ],
  [
    // Which node has a job, or a session; of a runtime that is alone its name is empty.
    `ALTER TABLE {jobs} ADD COLUMN node text COLLATE "C" NOT NULL DEFAULT ''`,
    `CREATE INDEX {jobs_by_node} ON {jobs} (node, created_at, job_id) WHERE ended_at IS NULL AND NOT rejected`,
    `CREATE INDEX {jobs_by_node_due} ON {jobs} (node, due_at, job_id) WHERE due_at IS NOT NULL`,
    `ALTER TABLE {sessions} ADD COLUMN node text COLLATE "C" NOT NULL DEFAULT ''`,
    `CREATE INDEX {sessions_by_node} ON {sessions} (node)`,
    // When each of them has last said that it is alive, by its clock: what sessions are taken to have been seen at.
    `CREATE TABLE {lives} (node text COLLATE "C" PRIMARY KEY, alive_at bigint NOT NULL) WITH (fillfactor = 50)`,
    `INSERT INTO {lives} (node, alive_at) SELECT '', alive_at FROM {runtime}`,
    `DROP TABLE {runtime}`
  ],
  [
    // What nodes want of each other: few rows, and short lives.
    `CREATE TABLE {wishes} (
      id text COLLATE "C" PRIMARY KEY,
      job_id text COLLATE "C" NOT NULL,
      kind text COLLATE "C" NOT NULL,
      body text COLLATE "C" NOT NULL,
      node text COLLATE "C" NOT NULL,
      at bigint NOT NULL,
      answer text COLLATE "C"
    )`
  ],
  [
    // Credentials that may be alive upstream, never their values; of each the node that revokes it.
    `CREATE TABLE {credentials} (
      id text COLLATE "C" PRIMARY KEY,
      credential_id text COLLATE "C" NOT NULL,
      job_id text COLLATE "C" NOT NULL,
      principal text COLLATE "C" NOT NULL,
      state text COLLATE "C" NOT NULL,
      endpoint text COLLATE "C",
      reference text COLLATE "C",
      created_at bigint NOT NULL,
      updated_at bigint NOT NULL,
      unsettled_until bigint,
      attempts bigint NOT NULL,
      last_error text COLLATE "C",
      node text COLLATE "C" NOT NULL,
      epoch bigint
    )`,
    `CREATE INDEX {credentials_by_node} ON {credentials} (node)`
  ],
  [
    // What a principal has on all nodes together is counted for its caps.
    `CREATE INDEX {jobs_open} ON {jobs} (principal) WHERE ended_at IS NULL AND NOT rejected`
  ]
]

/** The version that a database has when all migrations are done. */
export const schemaVersion = migrations.length

/** `version` is that of the schema. */
export const createStore = `CREATE TABLE IF NOT EXISTS {store} (
  id integer PRIMARY KEY CHECK (id = 0),
  version integer NOT NULL
)`

/**
 * Who may write, as long as `expires` has not come; each takes a slot. `last_commit` is the number of the newest batch of that
 * writer: a batch states which one it follows.
 */
export const createWriters = `CREATE TABLE IF NOT EXISTS {writers} (
  slot text COLLATE "C" PRIMARY KEY,
  id text COLLATE "C" NOT NULL,
  name text NOT NULL,
  last_commit bigint NOT NULL,
  alive timestamptz NOT NULL,
  expires timestamptz NOT NULL
) WITH (fillfactor = 10)`
