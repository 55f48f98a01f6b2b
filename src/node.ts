/** What needs Node: SQLite, the WebSocket server and client over `ws`, stdio. */

export * as CredentialStoreSql from "./layers/CredentialStoreSql.js"
export * as DialerStdio from "./layers/DialerStdio.js"
export * as DialerWebSocket from "./layers/DialerWebSocket.js"
export * as HttpClientPublic from "./layers/HttpClientPublic.js"
export * as RuntimeSqlite from "./layers/RuntimeSqlite.js"
export * as StoreSql from "./layers/StoreSql.js"
export * as StoreSqlite from "./layers/StoreSqlite.js"
export * as TransportStdio from "./layers/TransportStdio.js"
export * as TransportWebSocket from "./layers/TransportWebSocket.js"
