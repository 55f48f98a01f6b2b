/** What an upgrade request shows of whoever sent it. */
import type { IncomingMessage } from "node:http"
import { type PeerCertificate, TLSSocket } from "node:tls"
import * as Redacted from "effect/Redacted"
import type { ClientCertificate, Evidence } from "../../services/transport/Transport.js"
import { plainAddress } from "./clientAddress.js"

/** Bytes of the names and values of all headers of an upgrade request; Node takes 16 KiB unless told otherwise. */
const maxHeaderBytes = 32 * 1024

/** Tells whether an upgrade request has more headers than are kept until its hello. */
export const hasTooManyHeaders = ({ rawHeaders }: IncomingMessage): boolean => {
  let bytes = 0
  for (const text of rawHeaders) bytes += text.length
  return bytes > maxHeaderBytes
}

const headersOf = ({ headersDistinct }: IncomingMessage): NonNullable<Evidence["headers"]> => {
  const headers: Record<string, ReadonlyArray<Redacted.Redacted>> = Object.create(null)
  for (const [name, values] of Object.entries(headersDistinct))
    if (values !== undefined) headers[name] = values.map((value) => Redacted.make(value))
  return headers
}

const subjectOf = (certificate: PeerCertificate): ClientCertificate["subject"] =>
  Object.fromEntries(
    Object.entries(certificate.subject).flatMap(([field, value]) =>
      value === undefined ? [] : [[field, value]]
    )
  )

/** Only one that the server has verified: what anybody can make says nothing. */
const certificateOf = ({ socket }: IncomingMessage): ClientCertificate | undefined => {
  if (!(socket instanceof TLSSocket) || !socket.authorized) return undefined
  const certificate = socket.getPeerCertificate(false)
  if (certificate.subject === undefined) return undefined
  return {
    subject: subjectOf(certificate),
    ...(certificate.subjectaltname === undefined ? {} : { subjectAltName: certificate.subjectaltname }),
    fingerprint256: certificate.fingerprint256,
    validTo: Date.parse(certificate.valid_to)
  }
}

/**
 * Returns what a request shows. Without `trusted` only where it comes from: a browser adds its user's cookies and
 * certificate whatever page asks for the connection.
 */
export const evidenceOf = (request: IncomingMessage, trusted: boolean): Evidence => {
  const address = request.socket.remoteAddress
  const certificate = trusted ? certificateOf(request) : undefined
  return {
    ...(address === undefined ? {} : { address: plainAddress(address) }),
    ...(trusted ? { headers: headersOf(request) } : {}),
    ...(certificate === undefined ? {} : { certificate })
  }
}
