/** A connection: whole frames in order, nothing else (§4). */
export {
  type ClientCertificate,
  Closed,
  type Connection,
  closeCode,
  Dialer,
  type Evidence,
  type Inbound,
  type Peer,
  TransportError,
  TransportServer,
  Unreadable
} from "../services/transport/Transport.js"
