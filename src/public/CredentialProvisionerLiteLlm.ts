/** Credentials for jobs from a LiteLLM gateway. */
export {
  CredentialProvisionerLiteLlmError,
  layer,
  layerConfig,
  type Options
} from "../layers/credentials/CredentialProvisionerLiteLlm.js"
