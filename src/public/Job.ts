/** The job that a handler is running: what it emits, streams and delegates. */

export { type AskInput, InputExpired, type InputOptions } from "../services/jobs/Input.js"
export {
  type Delegate,
  type Delegated,
  type DelegateOptions,
  type Emit,
  type EmitError,
  type EmitOptions,
  Job,
  type JobService,
  type ResultEnd,
  type ResultStream,
  type RunStep,
  Step,
  type StepError,
  type StepOptions,
  type StepService
} from "../services/jobs/Job.js"
