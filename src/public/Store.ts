/** What a runtime keeps: sessions, jobs and their events. */
export {
  type JobFilter,
  type JobRecord,
  Op,
  type Run,
  type SessionRecord,
  Store,
  type StoredEvent,
  StoreError,
  type StoreService
} from "../services/store/Store.js"
