/** Hooks that are signed requests to a URL. */
export { HooksWebhookError, layer, type Options } from "../layers/jobs/HooksWebhook.js"
