/** An HTTP client for agents that reaches public addresses only. */
export { layer } from "../layers/lease/HttpClientPublic.js"
