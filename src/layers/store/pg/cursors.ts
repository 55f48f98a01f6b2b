/** How far sessions have come with the jobs that they observe: parts of statements over `{observers} o` and `{jobs} j`. */

/** `seq` up to which a session has numbered a job, or passed it over. */
export const cursor = `greatest(o.cursor, (SELECT job_seq + count - 1 FROM {runs}
  WHERE job_id = o.job_id AND session_id = o.session_id ORDER BY event_seq DESC LIMIT 1))`

/** Newest `seq` of a job, 0 when it never had an event. */
export const newest = "coalesce((SELECT max(seq) FROM {events} WHERE job = j.id), j.first - 1)"

/** Those who observe a job and have not come to its newest event, but for those that have lost events. */
export const withObservers = `JOIN {observers} o ON o.job_id = j.job_id
  JOIN {sessions} s ON s.session_id = o.session_id AND NOT s.lost AND ${cursor} < ${newest}`
