/** What a runtime does that the protocol forbids. */
import { ProtocolViolation } from "../../services/client/ArcpClient.js"

/** Returns the error that says so. */
export const violation = (message: string): ProtocolViolation => new ProtocolViolation({ message })
