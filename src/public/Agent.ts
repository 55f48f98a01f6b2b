/** An agent: a contract that client and server share, and its handler. */
export {
  type About,
  type AgentOptions,
  type Contract,
  fromPromise,
  handle,
  make,
  type Outcome,
  type PromiseJob,
  type Registered,
  type Restart,
  type ServiceTag
} from "../services/agents/Agent.js"
