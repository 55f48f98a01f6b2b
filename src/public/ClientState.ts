/** Where a client keeps its session, so that the next process goes on with it. */
export {
  type ClientState,
  type KeptJobs,
  keptJobs,
  keyValueStore,
  type Opened,
  type Saved,
  type SavedJob,
  type StateStore,
  type StoreOptions
} from "../layers/client/ClientState.js"
