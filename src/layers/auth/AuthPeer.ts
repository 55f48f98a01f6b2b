/**
 * Identities from what the peer of a connection shows of itself (§6.1): a cookie of its upgrade request, a header of a
 * proxy that is trusted, a client certificate.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { type InternalError, Unauthenticated } from "../../protocol/Errors.js"
import { Auth, type Identity } from "../../services/auth/Auth.js"
import type { Peer } from "../../services/transport/Transport.js"

/** Tells who a peer is; `Unauthenticated` when it shows nothing, or not enough. */
export type PeerJudge = (peer: Peer) => Effect.Effect<Identity, Unauthenticated | InternalError>

/** Returns an `Auth` that judges a hello by its peer alone. A token that it may have is not looked at. */
export const fromPeer = (judge: PeerJudge): Auth["Type"] => ({ authenticate: ({ peer }) => judge(peer) })

/**
 * Returns a layer that judges a hello without a token by its peer, and leaves every other one to the layer given: a token
 * that is refused stays refused, whatever else its peer shows.
 *
 * @example
 * const judge = (peer: Transport.Peer) => Effect.flatMap(Auth.cookie(peer, "session"), findSession)
 * AuthJwt.layer({ key }).pipe(Auth.withPeer(judge))
 */
export const withPeer =
  (judge: PeerJudge) =>
  <E, R>(tokens: Layer.Layer<Auth, E, R>): Layer.Layer<Auth, E, R> =>
    Layer.map(tokens, (context) => {
      const { authenticate } = Context.get(context, Auth)
      return Context.make(Auth, {
        authenticate: (request) => (request.token === undefined ? judge(request.peer) : authenticate(request))
      })
    })

/** The one answer to a peer that shows too little; it says nothing about what was missing. */
const unknownPeer = () =>
  new Unauthenticated({ message: "nothing that came with this connection says who it is from" })

const only = <A>(found: ReadonlyArray<A>): Effect.Effect<A, Unauthenticated> => {
  const [first] = found
  return first === undefined || found.length > 1 ? unknownPeer() : Effect.succeed(first)
}

/**
 * Returns the header of this name, in any case, of the upgrade request. Fails when there is none, and when there are
 * several: which of them a proxy has written, and which its client, cannot be told.
 */
export const header = (peer: Peer, name: string): Effect.Effect<Redacted.Redacted, Unauthenticated> =>
  only(peer.headers?.[name.toLowerCase()] ?? [])

/**
 * Returns the cookie of this name of the upgrade request, as it was sent: nothing is decoded. Fails when there is none,
 * and when there are several: another site of the same domain may have set one of them.
 */
export const cookie = (peer: Peer, name: string): Effect.Effect<Redacted.Redacted, Unauthenticated> =>
  only(
    (peer.headers?.cookie ?? [])
      .flatMap((line) => Redacted.value(line).split(";"))
      .flatMap((pair) => {
        const at = pair.indexOf("=")
        return at >= 0 && pair.slice(0, at).trim() === name ? [Redacted.make(pair.slice(at + 1).trim())] : []
      })
  )

/** Whose word is taken for who a peer is. */
export interface ProxyOptions {
  /**
   * IP addresses that the proxy connects from, or `unix` for a Unix socket. Whoever can connect from there can be anybody:
   * with `127.0.0.1`, every program on this machine.
   */
  readonly from: ReadonlyArray<string>
  /** The header in which it names the principal, such as `x-forwarded-user`. It must take out what a client sends there. */
  readonly header: string
}

/**
 * Takes a proxy's word for who its client is. Connections from elsewhere are refused, with or without the header.
 *
 * @example
 * Layer.succeed(Auth.Auth, Auth.fromPeer(Auth.behindProxy({ from: ["10.0.0.2"], header: "x-forwarded-user" })))
 */
export const behindProxy =
  ({ from, header: name }: ProxyOptions): PeerJudge =>
  (peer) =>
    peer.kind !== "websocket" || !from.includes(peer.address ?? "unix")
      ? unknownPeer()
      : Effect.flatMap(header(peer, name), (value) => {
          const principal = Redacted.value(value).trim()
          return principal === "" ? unknownPeer() : Effect.succeed({ principal })
        })
