/** Services that check the lease of the job that uses them. */
export { type Leased, type Lessee, lazily, make } from "../services/lease/Leased.js"
