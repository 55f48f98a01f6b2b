/** The store in Postgres. */
export { layer, type Options, type Stores } from "../layers/store/pg/StorePg.js"
