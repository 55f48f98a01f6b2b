/** Tools that agents call under their lease, from one or several sources. */
export {
  type Failures,
  type Item,
  layer,
  leased,
  type Requirements,
  ToolRegistrationError
} from "../layers/agents/Tools.js"
export {
  type Call,
  type CallOptions,
  type Contract,
  handle,
  type JsonSchema,
  make,
  type Ran,
  type Registered,
  type Restore,
  type Source,
  ToolFailure,
  type ToolInfo,
  type ToolOptions,
  Tools,
  type ToolsService
} from "../services/agents/Tools.js"
