/** A store over a SQL client of yours, in a database that has tables of yours too. */

export type { TableOptions } from "../layers/store/migrate.js"
export { layer, migrate, type Options } from "../layers/store/StoreSql.js"
