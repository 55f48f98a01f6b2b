/** The sessions of a runtime, for transports that serve connections themselves. */
export { Sessions } from "../services/session/Sessions.js"
