/** Whether a job may begin now: rate limits, quotas, maintenance. */
export { layer, layerAdmitAll, layerRateLimit, type RateLimitOptions } from "../layers/jobs/Admission.js"
export { Admission, later, type Submit } from "../services/jobs/Admission.js"
