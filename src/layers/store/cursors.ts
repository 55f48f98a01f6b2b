/**
 * How far sessions have come with the jobs that they observe: parts of statements over `{observers} o` and `{jobs} j`. What is
 * stored of a cursor is where it was when the session began, and where it passed events over; otherwise it is where the
 * session's last run of the job ends, which costs nothing to store.
 */

/** `seq` up to which a session has numbered a job, or passed it over. */
export const cursor = `max(o.cursor, coalesce((SELECT job_seq + count - 1 FROM {runs}
  WHERE session_id = o.session_id AND event_seq = (SELECT max(event_seq) FROM {runs}
    WHERE job_id = o.job_id AND session_id = o.session_id)), 0))`

/** Newest `seq` of a job, 0 when it never had an event. */
export const newest = `coalesce((SELECT seq + count - 1 FROM {extents}
  WHERE job = j.id AND seq = (SELECT max(seq) FROM {extents} WHERE job = j.id)), 0)`

/** The sessions that have not come to a `seq` of a job, or to its end when that is before it. */
export const behind = `SELECT o.session_id FROM {jobs} j CROSS JOIN {observers} o ON o.job_id = j.job_id
  WHERE j.job_id = ? AND ${cursor} < min(? - 1, ${newest})`
