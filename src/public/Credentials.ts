/** Credentials that are minted for a job and revoked when it ends (§9.8). */
export { layer, layerNone } from "../layers/credentials/Credentials.js"
export {
  type Credential,
  type CredentialConstraints,
  type CredentialJob,
  Credentials,
  type Input,
  type Options
} from "../services/credentials/Credentials.js"
