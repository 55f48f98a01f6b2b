/** What a runtime keeps: sessions, jobs and their events. */
export {
  type Batch,
  Fenced,
  type HookEvent,
  type JobFilter,
  type JobRecord,
  type JournalEntry,
  type JournalIndexEntry,
  type LateEvent,
  type Numbering,
  type Observed,
  Op,
  type Run,
  type SessionRecord,
  Store,
  type StoredEvent,
  StoreError,
  type StoreService,
  type Survival,
  type Wish
} from "../services/store/Store.js"
