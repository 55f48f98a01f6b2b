/** What needs Node: SQLite, the WebSocket server and client over `ws`, stdio. */

export * as CredentialStoreSql from "./public/CredentialStoreSql.js"
export * as DialerStdio from "./public/DialerStdio.js"
export * as DialerWebSocket from "./public/DialerWebSocket.js"
export * as HttpClientPublic from "./public/HttpClientPublic.js"
export * as HttpRoutes from "./public/HttpRoutes.js"
export * as RuntimeSqlite from "./public/RuntimeSqlite.js"
export * as StoreSql from "./public/StoreSql.js"
export * as StoreSqlite from "./public/StoreSqlite.js"
export * as Telemetry from "./public/Telemetry.js"
export * as TransportStdio from "./public/TransportStdio.js"
export * as TransportWebSocket from "./public/TransportWebSocket.js"
export * as WebConsole from "./public/WebConsole.js"
