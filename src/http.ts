/** Runtimes over plain HTTP, beside or in place of the protocol's own transports. */

export * as HttpGateway from "./public/HttpGateway.js"
