/** The store in Postgres. */
export { layer, type Options } from "../layers/store/pg/StorePg.js"
