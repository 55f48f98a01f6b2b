/** Records of credentials that are forgotten on exit: for tests. */
export { layer } from "../layers/credentials/CredentialStoreMemory.js"
