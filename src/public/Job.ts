/** The job that a handler is running: what it emits, streams and delegates. */
export {
  type Delegate,
  type Delegated,
  type DelegateOptions,
  type Emit,
  type EmitError,
  Job,
  type JobService,
  type ResultStream
} from "../services/jobs/Job.js"
