/** Where a client keeps its session, so that the next process goes on with it. */
export {
  type ClientState,
  keyValueStore,
  type Opened,
  type Saved,
  type SavedJob,
  type StateStore
} from "../layers/client/ClientState.js"
