/** A connection: whole frames in order, nothing else (§4). */
export {
  Closed,
  type Connection,
  closeCode,
  Dialer,
  type Inbound,
  TransportError,
  TransportServer,
  Unreadable
} from "../services/transport/Transport.js"
