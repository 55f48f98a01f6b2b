/** What mints and revokes credentials upstream. */
export {
  CredentialProvisioner,
  type CredentialProvisionerService,
  type Minted,
  type MintRequest,
  ProvisionError
} from "../services/credentials/CredentialProvisioner.js"
