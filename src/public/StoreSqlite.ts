/** A store on a SQLite file. */
export { layer, layerReadOnly, type Options } from "../layers/store/StoreSqlite.js"
