/** What the reads of a store ask its database: the statements, which each kind of database has its own of. */
import type { NewsQuery } from "../../services/store/Store.js"
import * as query from "./query.js"
import * as retention from "./retentionQuery.js"
import type { Statement } from "./statements.js"
import * as viewing from "./viewQuery.js"

export type { EndedRow } from "./retentionQuery.js"

/** The statements of SQLite. */
export const sqlite = {
  session: query.session,
  sessions: query.sessions,
  sessionPage: query.sessionPage,
  job: query.job,
  jobBySubmit: query.jobBySubmit,
  jobByKey: query.jobByKey,
  events: viewing.events,
  runs: viewing.runs,
  numbering: viewing.numbering,
  backlog: viewing.backlog,
  view: viewing.view,
  page: viewing.page,
  journal: query.journal,
  journalValue: query.journalValue,
  jobPlaces: query.jobPlaces,
  sessionPlaces: query.sessionPlaces,
  openCounts: query.openCounts,
  attachedCounts: query.attachedCounts,
  wishes: query.wishes,
  hookEvents: query.hookEvents,
  input: query.input,
  jobs: query.jobs,
  due: query.due,
  waitingObserved: query.waitingObserved,
  waitingOwners: query.waitingOwners,
  waitingCounts: query.waitingCounts,
  jobNodes: query.jobNodes,
  lives: query.lives,
  retained: retention.retained,
  marks: retention.marks,
  viewers: retention.viewers,
  neededOf: retention.neededOf,
  needed: retention.needed,
  neededAbove: retention.neededAbove,
  observersOf: retention.observersOf,
  observed: retention.observed,
  lagging: retention.lagging,
  need: retention.need,
  hasLost: retention.hasLost,
  ended: retention.ended,
  endedCounts: retention.endedCounts,
  freeing: retention.freeing,
  counted: retention.counted,
  countedAtOnce: retention.countedAtOnce as number
}

/** What the reads ask, whatever the database. */
export type Queries = typeof sqlite & {
  /** Of a database that nodes share, as what follows. */
  readonly news?: ((query: NewsQuery) => Statement) | undefined
  readonly openOn?:
    | ((nodes: ReadonlyArray<string>, principals: ReadonlyArray<string>) => query.Query<query.OpenRow>)
    | undefined
}
