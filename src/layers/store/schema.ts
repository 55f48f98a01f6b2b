/** The tables of a SQL store, and how an older file becomes a current one. */

/** "ARCP", in the file header of every database of ours. */
export const applicationId = 0x41524350

/**
 * Migration n (from 1) brings a file of schema version n - 1 to version n. Never edit one that was
 * released; append.
 *
 * - `events` is append-only by rowid and has no other index: that is what makes appending fast. The way
 *   from (job, seq) to rowids is `extents`, one row per job and commit at most.
 * - `event_trims` and `run_trims` hold what was dropped or trimmed and is not yet physically deleted;
 *   reads never look below them.
 * - `record` is the whole record as JSON; the columns beside it are those that are searched.
 */
export const migrations: ReadonlyArray<ReadonlyArray<string>> = [
  [
    `CREATE TABLE events (
      id INTEGER PRIMARY KEY,
      job INTEGER NOT NULL,
      seq INTEGER NOT NULL,
      type TEXT NOT NULL,
      kind TEXT NOT NULL,
      audience TEXT,
      owner_seq INTEGER NOT NULL,
      payload TEXT NOT NULL
    )`,
    `CREATE TABLE extents (
      job INTEGER NOT NULL,
      seq INTEGER NOT NULL,
      count INTEGER NOT NULL,
      row INTEGER NOT NULL,
      PRIMARY KEY (job, seq)
    ) WITHOUT ROWID`,
    `CREATE TABLE event_trims (job INTEGER PRIMARY KEY, before INTEGER NOT NULL)`,
    `CREATE TABLE runs (
      session_id TEXT NOT NULL,
      event_seq INTEGER NOT NULL,
      job_id TEXT NOT NULL,
      job_seq INTEGER NOT NULL,
      count INTEGER NOT NULL,
      PRIMARY KEY (session_id, event_seq)
    ) WITHOUT ROWID`,
    `CREATE TABLE run_trims (session_id TEXT PRIMARY KEY, before INTEGER NOT NULL) WITHOUT ROWID`,
    `CREATE TABLE sessions (session_id TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID`,
    `CREATE TABLE jobs (
      id INTEGER PRIMARY KEY,
      job_id TEXT NOT NULL UNIQUE,
      session_id TEXT NOT NULL,
      submit_id TEXT NOT NULL,
      principal TEXT NOT NULL,
      idempotency_key TEXT,
      agent TEXT NOT NULL,
      status TEXT NOT NULL,
      rejected INTEGER NOT NULL,
      created_at INTEGER NOT NULL,
      ended_at INTEGER,
      record TEXT NOT NULL
    )`,
    `CREATE INDEX jobs_by_submit ON jobs (session_id, submit_id)`,
    `CREATE INDEX jobs_by_key ON jobs (principal, idempotency_key)
      WHERE idempotency_key IS NOT NULL AND rejected = 0`,
    `CREATE INDEX jobs_by_principal ON jobs (principal, created_at, job_id) WHERE rejected = 0`,
    `CREATE INDEX jobs_by_creation ON jobs (created_at, job_id) WHERE rejected = 0`,
    `CREATE INDEX jobs_by_end ON jobs (ended_at) WHERE ended_at IS NOT NULL`,
    `CREATE TABLE observers (
      session_id TEXT NOT NULL,
      job_id TEXT NOT NULL,
      PRIMARY KEY (session_id, job_id)
    ) WITHOUT ROWID`,
    `CREATE INDEX observers_by_job ON observers (job_id, session_id)`,
    `CREATE TABLE runtime (id INTEGER PRIMARY KEY CHECK (id = 0), alive_at INTEGER NOT NULL)`
  ]
]

export const schemaVersion = migrations.length
