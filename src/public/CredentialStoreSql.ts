/** Records of credentials in a database, beside the runtime's or with it. */
export {
  type FileOptions,
  layer,
  layerSqlite,
  layerSqliteShared,
  type Options
} from "../layers/credentials/CredentialStoreSql.js"
