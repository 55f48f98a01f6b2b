/** Agents over plain HTTP: a part of the server of a transport, or of a router of yours. */
export { api, Problem } from "../layers/http/api.js"
export { app, HttpGatewayError, layer, type Options } from "../layers/http/HttpGateway.js"
