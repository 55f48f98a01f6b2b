/** Records of credentials, kept until they are revoked. */
export {
  type CredentialRecord,
  type CredentialState,
  CredentialStore,
  type CredentialStoreService
} from "../services/credentials/CredentialStore.js"
