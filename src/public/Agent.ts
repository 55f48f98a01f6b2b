/** An agent: a contract that client and server share, and its handler. */
export {
  type Contract,
  fromPromise,
  handle,
  make,
  type Outcome,
  type PromiseJob,
  type Registered
} from "../services/agents/Agent.js"
