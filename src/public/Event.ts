/** The events of a job (§8), by kind. */

export {
  ArtifactRef,
  type Body,
  Delegate,
  type Event,
  EventPayload,
  type Kind,
  kinds,
  Log,
  LogLevel,
  Metric,
  Progress,
  ResultChunk,
  Status,
  Thought,
  ToolCall,
  ToolResult
} from "../protocol/Event.js"
export {
  type AnyVendorEvent,
  type Emits,
  type VendorEvent,
  type VendorKind,
  vendor
} from "../services/agents/VendorEvent.js"
