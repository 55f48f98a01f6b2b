/** Records of credentials, kept until they are revoked. */
export {
  type CredentialRecord,
  type CredentialState,
  CredentialStore,
  type CredentialStoreService,
  type SharedCredentials
} from "../services/credentials/CredentialStore.js"
