/** A store over a SQL client of yours. */
export { layer, type Options } from "../layers/store/StoreSql.js"
