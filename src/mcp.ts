/** The tools of MCP servers, over `@modelcontextprotocol/sdk`. */
export * as ToolsMcp from "./public/ToolsMcp.js"
