/** What needs Node: SQLite, the WebSocket server and client over `ws`, stdio. */

export * as CredentialStoreSql from "./layers/credentials/CredentialStoreSql.js"
export * as HttpClientPublic from "./layers/lease/HttpClientPublic.js"
export * as RuntimeSqlite from "./layers/runtime/RuntimeSqlite.js"
export * as StoreSql from "./layers/store/StoreSql.js"
export * as StoreSqlite from "./layers/store/StoreSqlite.js"
export * as DialerStdio from "./layers/transport/DialerStdio.js"
export * as DialerWebSocket from "./layers/transport/DialerWebSocket.js"
export * as TransportStdio from "./layers/transport/TransportStdio.js"
export * as TransportWebSocket from "./layers/transport/TransportWebSocket.js"
