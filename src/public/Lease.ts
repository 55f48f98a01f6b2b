/** What a job may touch, spend and for how long (§9): the service of a running job, and the terms it was given. */
export { Lease as Terms, LeaseConstraints as Constraints, reserved } from "../protocol/Lease.js"
export {
  type Cost,
  type FetchBounds,
  Lease,
  type LeaseError,
  type LeaseService,
  leaseErrorOf
} from "../services/lease/Lease.js"
