/** The tables of a SQL store, and how an older file becomes a current one. */

/** "ARCP", in the file header of every database of ours. */
export const applicationId = 0x41524350

/**
 * Migration n (from 1) brings a file of schema version n - 1 to version n. Never edit one that was
 * released; append. Names in braces get the prefix of the store (`naming.ts`).
 *
 * - `events` is append-only by rowid and has no other index: that is what makes appending fast. The way
 *   from (job, seq) to rowids is `extents`, one row per job and commit at most.
 * - `event_trims` and `run_trims` hold what was dropped or trimmed and is not yet physically deleted;
 *   reads never look below them.
 * - The floor of a view, `run_trims.before`, lives as long as its session; `freed` says how far the runs before it
 *   were looked at. Of a dropped session it is `everything`, and the row goes with the last run.
 * - The runs that a session has over jobs of its own are their events' numbers in its view (`from_event_seq`), also when it is
 *   gone or has lost them; `run_drops` says of which jobs that were dropped or trimmed such runs may be left.
 * - A run with `rejoin` starts lower in its job than the session's run of that job before it ends: history that was asked
 *   for again. All others ascend, so what a session needs of a job is found by a seek.
 * - `observers.cursor` is where a session began with a job, or where it has passed events over; when its last run of the job leads
 *   further, it is there. The row goes when the session has numbered the job's end. `lost`: what it had not come to is gone.
 * - Extents are no longer than a mark may be (see `Store.marks`), and their bytes are what retention counts.
 * - `journal` has what durable jobs have done: an entry is replaced in place, and `value`, which may be large, comes last,
 *   so that an index of a journal is read without it.
 * - `wishes` has what nodes want of each other (see `Wish`): few rows, and none of a runtime that is alone.
 * - `epoch` is that of the record: whoever writes states which one it knows (see `Store.commit`).
 * - `record` is the whole record as JSON; the columns beside it are those that are searched. `due_at` is that of jobs which wait
 *   and are not in memory.
 */
export const migrations: ReadonlyArray<ReadonlyArray<string>> = [
  [
    `CREATE TABLE {events} (
      id INTEGER PRIMARY KEY,
      job INTEGER NOT NULL,
      seq INTEGER NOT NULL,
      type TEXT NOT NULL,
      kind TEXT NOT NULL,
      audience TEXT,
      owner_seq INTEGER NOT NULL,
      payload TEXT NOT NULL
    )`,
    `CREATE TABLE {extents} (
      job INTEGER NOT NULL,
      seq INTEGER NOT NULL,
      count INTEGER NOT NULL,
      row INTEGER NOT NULL,
      PRIMARY KEY (job, seq)
    ) WITHOUT ROWID`,
    `CREATE TABLE {event_trims} (job INTEGER PRIMARY KEY, before INTEGER NOT NULL)`,
    `CREATE TABLE {runs} (
      session_id TEXT NOT NULL,
      event_seq INTEGER NOT NULL,
      job_id TEXT NOT NULL,
      job_seq INTEGER NOT NULL,
      count INTEGER NOT NULL,
      PRIMARY KEY (session_id, event_seq)
    ) WITHOUT ROWID`,
    `CREATE TABLE {run_trims} (session_id TEXT PRIMARY KEY, before INTEGER NOT NULL) WITHOUT ROWID`,
    `CREATE TABLE {sessions} (session_id TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID`,
    `CREATE TABLE {jobs} (
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
    `CREATE INDEX {jobs_by_submit} ON {jobs} (session_id, submit_id)`,
    `CREATE INDEX {jobs_by_key} ON {jobs} (principal, idempotency_key)
      WHERE idempotency_key IS NOT NULL AND rejected = 0`,
    `CREATE INDEX {jobs_by_principal} ON {jobs} (principal, created_at, job_id) WHERE rejected = 0`,
    `CREATE INDEX {jobs_by_creation} ON {jobs} (created_at, job_id) WHERE rejected = 0`,
    `CREATE INDEX {jobs_by_end} ON {jobs} (ended_at) WHERE ended_at IS NOT NULL`,
    `CREATE TABLE {observers} (
      session_id TEXT NOT NULL,
      job_id TEXT NOT NULL,
      PRIMARY KEY (session_id, job_id)
    ) WITHOUT ROWID`,
    `CREATE INDEX {observers_by_job} ON {observers} (job_id, session_id)`,
    `CREATE TABLE {runtime} (id INTEGER PRIMARY KEY CHECK (id = 0), alive_at INTEGER NOT NULL)`
  ],
  [
    `ALTER TABLE {extents} ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0`,
    `WITH RECURSIVE piece (job, seq, count, row) AS (
      SELECT job, seq, count, row FROM {extents}
      UNION ALL
      SELECT job, seq + 1024, count - 1024, row + 1024 FROM piece WHERE count > 1024
    )
    REPLACE INTO {extents} (job, seq, count, row, bytes)
    SELECT job, seq, min(count, 1024), row, coalesce(
      (SELECT sum(length(payload) + 64) FROM {events} WHERE id >= row AND id < row + min(count, 1024)), 0)
    FROM piece`,
    `ALTER TABLE {runs} ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0`,
    // What a run of an older file accounts for is taken from the average event of its job.
    `CREATE TABLE {averages} (job_id TEXT PRIMARY KEY, bytes INTEGER NOT NULL) WITHOUT ROWID`,
    `INSERT INTO {averages}
     SELECT j.job_id, sum(x.bytes) / sum(x.count) FROM {extents} x JOIN {jobs} j ON j.id = x.job
     GROUP BY j.job_id HAVING sum(x.count) > 0`,
    `UPDATE {runs} SET bytes = count * coalesce((SELECT a.bytes FROM {averages} a WHERE a.job_id = {runs}.job_id), 0)`,
    `DROP TABLE {averages}`,
    `ALTER TABLE {runs} ADD COLUMN rejoin INTEGER NOT NULL DEFAULT 0`,
    `CREATE INDEX {runs_by_job} ON {runs} (job_id, session_id, event_seq)`,
    `CREATE INDEX {runs_by_rejoin} ON {runs} (job_id, session_id, event_seq, job_seq) WHERE rejoin = 1`,
    `UPDATE {runs} SET rejoin = 1 WHERE job_seq < (
      SELECT r.job_seq + r.count FROM {runs} r WHERE r.session_id = {runs}.session_id AND r.event_seq = (
        SELECT max(b.event_seq) FROM {runs} b
        WHERE b.job_id = {runs}.job_id AND b.session_id = {runs}.session_id AND b.event_seq < {runs}.event_seq))`,
    `CREATE TRIGGER {runs_rejoin} AFTER INSERT ON {runs} WHEN new.job_seq < (
      SELECT r.job_seq + r.count FROM {runs} r WHERE r.session_id = new.session_id AND r.event_seq = (
        SELECT max(b.event_seq) FROM {runs} b
        WHERE b.job_id = new.job_id AND b.session_id = new.session_id AND b.event_seq < new.event_seq))
    BEGIN
      UPDATE {runs} SET rejoin = 1 WHERE session_id = new.session_id AND event_seq = new.event_seq;
    END`,
    `ALTER TABLE {run_trims} ADD COLUMN freed INTEGER NOT NULL DEFAULT 0`,
    `CREATE INDEX {run_trims_pending} ON {run_trims} (session_id) WHERE freed < before`,
    `CREATE INDEX {event_trims_live} ON {event_trims} (job) WHERE before < 9007199254740991`,
    `ALTER TABLE {sessions} ADD COLUMN need INTEGER NOT NULL DEFAULT 1`,
    // One older token of a session was kept beside the newest; now the older is the one that its client holds.
    `UPDATE {sessions} SET record = json_remove(json_set(record,
      '$.tokenDigest', json_extract(record, '$.previousTokenDigest'),
      '$.issuedTokenDigests', json_array(json_extract(record, '$.tokenDigest'))), '$.previousTokenDigest')
     WHERE json_extract(record, '$.previousTokenDigest') IS NOT NULL`,
    `ALTER TABLE {jobs} ADD COLUMN trace_id TEXT NOT NULL DEFAULT ''`,
    `UPDATE {jobs} SET trace_id = coalesce(json_extract(record, '$.traceId'), '')`,
    // Listings walk this one or those by creation in steps. What changes when a job ends is in this one only.
    `CREATE INDEX {jobs_by_status} ON {jobs} (status, created_at, job_id, principal, agent) WHERE rejected = 0`,
    `CREATE INDEX {jobs_by_principal_end} ON {jobs} (principal, ended_at) WHERE ended_at IS NOT NULL`,
    `CREATE TABLE {inputs} (job INTEGER PRIMARY KEY, input TEXT NOT NULL)`
  ],
  [
    `CREATE TABLE {journal} (
      job INTEGER NOT NULL,
      kind TEXT NOT NULL,
      key TEXT NOT NULL,
      ordinal INTEGER NOT NULL,
      about TEXT NOT NULL,
      size INTEGER,
      value TEXT,
      PRIMARY KEY (job, kind, key)
    ) WITHOUT ROWID`
  ],
  [
    `ALTER TABLE {jobs} ADD COLUMN due_at INTEGER`,
    `CREATE INDEX {jobs_by_due} ON {jobs} (due_at, job_id, principal) WHERE due_at IS NOT NULL`
  ],
  [
    `CREATE TABLE {hook_events} (
      job_id TEXT NOT NULL,
      seq INTEGER NOT NULL,
      text TEXT NOT NULL,
      PRIMARY KEY (job_id, seq)
    ) WITHOUT ROWID`
  ],
  [
    `ALTER TABLE {jobs} ADD COLUMN epoch INTEGER NOT NULL DEFAULT 1`,
    `ALTER TABLE {sessions} ADD COLUMN epoch INTEGER NOT NULL DEFAULT 1`
  ],
  [
    `CREATE TABLE {run_drops} (
      job_id TEXT NOT NULL,
      session_id TEXT NOT NULL,
      PRIMARY KEY (job_id, session_id)
    ) WITHOUT ROWID`,
    // Each event had its number in its owner's view. Runs are made of those whose own are gone, with their session or
    // because it had lost them: of events that follow each other in both numberings.
    "DELETE FROM {runs} WHERE session_id NOT IN (SELECT session_id FROM {sessions})",
    `INSERT OR IGNORE INTO {runs} (session_id, event_seq, job_id, job_seq, count)
     WITH lost AS (
       SELECT j.id, j.job_id, j.session_id, iif(s.session_id IS NULL, 9007199254740991,
         coalesce((SELECT min(event_seq) FROM {runs} WHERE session_id = j.session_id), 0)) AS low
       FROM {jobs} j LEFT JOIN {sessions} s ON s.session_id = j.session_id
       WHERE s.session_id IS NULL OR EXISTS (SELECT 1 FROM {run_trims} t WHERE t.session_id = j.session_id)
     ), told AS (
       SELECT l.job_id, l.session_id, l.low, e.seq, e.owner_seq,
         lag(e.owner_seq, 1, 0) OVER (PARTITION BY l.job_id ORDER BY e.seq) AS before
       FROM lost l CROSS JOIN {extents} x ON x.job = l.id
       CROSS JOIN {events} e ON e.id >= x.row AND e.id < x.row + x.count
     ), placed AS (
       SELECT job_id, session_id, seq, owner_seq, row_number() OVER (PARTITION BY job_id ORDER BY seq) AS place
       FROM told WHERE owner_seq > before AND owner_seq < low
     )
     SELECT session_id, min(owner_seq), job_id, min(seq), count(*) FROM placed
     GROUP BY job_id, session_id, seq - place, owner_seq - place`,
    `INSERT OR IGNORE INTO {run_trims} (session_id, before, freed)
     SELECT DISTINCT r.session_id, 9007199254740991, 9007199254740991 FROM {runs} r
     WHERE r.session_id NOT IN (SELECT session_id FROM {sessions})`,
    "ALTER TABLE {events} DROP COLUMN owner_seq"
  ],
  [
    `ALTER TABLE {observers} ADD COLUMN cursor INTEGER NOT NULL DEFAULT 0`,
    `ALTER TABLE {sessions} ADD COLUMN lost INTEGER NOT NULL DEFAULT 0`,
    // Whatever was committed was numbered for all observers, the end of a job too.
    "DELETE FROM {observers} WHERE job_id NOT IN (SELECT job_id FROM {jobs} WHERE ended_at IS NULL)",
    `UPDATE {observers} SET cursor = coalesce((SELECT max(x.seq + x.count - 1) FROM {extents} x
       WHERE x.job = (SELECT id FROM {jobs} WHERE job_id = {observers}.job_id)), 0)`
  ],
  [
    // Names of nodes are JSON, as in records: they may have what text cannot.
    `CREATE TABLE {wishes} (
      id TEXT PRIMARY KEY,
      job_id TEXT NOT NULL,
      kind TEXT NOT NULL,
      body TEXT NOT NULL,
      node TEXT NOT NULL,
      at INTEGER NOT NULL,
      answer TEXT
    ) WITHOUT ROWID`
  ]
]

/** The version that a database has when all migrations are done. */
export const schemaVersion = migrations.length
