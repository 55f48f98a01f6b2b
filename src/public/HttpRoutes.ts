/** What a WebSocket server of its own answers beside its endpoint. */
export {
  HttpRoutes,
  layer,
  type RefusalWriter,
  type RouteApp,
  type RouteRefusal,
  Visitor,
  type VisitorShape
} from "../layers/transport/HttpRoutes.js"
