/** Tools of MCP servers. */
export {
  type HttpOptions,
  http,
  layerHttp,
  layerStdio,
  McpConnectionError,
  type StdioOptions,
  stdio
} from "../layers/agents/ToolsMcp.js"
