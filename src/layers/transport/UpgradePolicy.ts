/** Who may open a WebSocket: the `Origin`, `Host` and plaintext rules of §14. */
import type { IncomingMessage } from "node:http"
import * as Argument from "../../protocol/Argument.js"
import { isLoopback, normalised } from "../../protocol/Loopback.js"
import { clientAddress, plainAddress, type TrustedProxies, trustedProxies } from "./clientAddress.js"

/** Whose upgrade requests are accepted. */
export interface UpgradePolicy {
  /**
   * Origins of web pages that may connect beside the server's own, such as `https://app.example.com`;
   * `"*"` is every page, of which `Auth` is shown no headers: a token has to say who they are. Requests without `Origin`
   * (programs, not pages) always may. Default: none.
   */
  readonly allowedOrigins?: ReadonlyArray<string> | undefined
  /**
   * Host names clients may address the server by, beside `localhost`, loopback addresses and the host it
   * is bound to. Checked on loopback binds (against DNS rebinding), and everywhere when given. A reverse
   * proxy before a loopback bind needs its public name here. Default: none.
   */
  readonly allowedHosts?: ReadonlyArray<string> | undefined
  /**
   * Proxies that are believed where a client is, by the last address of `X-Forwarded-For` that is not one of theirs: IP
   * addresses, networks as `10.0.0.0/8`, or `unix` for a Unix socket. Clients of other proxies count as one peer, whose
   * failed logins are slowed down together. Default: none.
   */
  readonly trustedProxies?: ReadonlyArray<string> | undefined
  /**
   * Accept plaintext from other machines. Tokens then travel readable; credentials of jobs do not, they are offered only over TLS, also
   * that of a trusted proxy whose `X-Forwarded-Proto` says so, and on this machine. Default: false.
   */
  readonly allowInsecure?: boolean | undefined
}

/** Proxies as they are written; which of them is none is said, since it is no secret. */
const proxies: Argument.Rule = (value, name) => {
  const problem = Argument.listOf(Argument.text)(value, name)
  if (problem !== undefined) return problem
  try {
    trustedProxies(value as ReadonlyArray<string>)
    return undefined
  } catch (error) {
    return `${name}: ${error instanceof Error ? error.message : String(error)}`
  }
}

/** A name or an address, and nothing else of a URL that would have another host than it looks like. */
const isPlain = (host: string): boolean => !/[@/\\?#\s]/.test(host)

const parse = (url: string): URL | undefined => (URL.canParse(url) ? new URL(url) : undefined)

/** What a browser names as where a page is from; of pages without an address it is `null`. */
export const originRule: Argument.Rule = Argument.that(
  'an origin, as https://app.example.com without a path, or "*"',
  (value) =>
    value === "*" ||
    value === "null" ||
    (typeof value === "string" &&
      /^[a-z][a-z\d+.-]*:\/\/[^@/\\?#\s]+$/i.test(value) &&
      parse(value) !== undefined)
)

/** A host as it is compared. */
export const hostRule: Argument.Rule = Argument.that(
  "the name of a host or an address, without a port",
  (value) =>
    typeof value === "string" &&
    isPlain(value) &&
    !value.includes("*") &&
    [value, `[${value}]`].some((host) => {
      const name = parse(`http://${host}`)?.hostname
      return name !== undefined && normalised(name) === normalised(value)
    })
)

/** What the options of a policy have to be: a text in the place of a list would be searched for parts of it. */
export const policyRules = {
  allowedOrigins: Argument.maybe(Argument.listOf(originRule)),
  allowedHosts: Argument.maybe(Argument.listOf(hostRule)),
  trustedProxies: Argument.maybe(proxies),
  allowInsecure: Argument.maybe(Argument.boolean)
}

/** Where an endpoint is. */
export const pathRule: Argument.Rule = Argument.that(
  "a path that starts with a /, like /arcp",
  (value) => typeof value === "string" && /^\/[^?#\s]*$/.test(value)
)

/** Why a request is not upgraded, as HTTP says it. */
export interface OriginRefusal {
  readonly status: 403
  readonly message: string
}

const refuse = (message: string): OriginRefusal => ({ status: 403, message })

const isSameOrigin = (origin: string, host: string | undefined): boolean => {
  const page = parse(origin)
  return (
    page !== undefined && page.host !== "" && page.host === parse(`${page.protocol}//${host ?? ""}`)?.host
  )
}

/**
 * Tells whether a request comes from a program, the server's own page, or a page that is listed by name: not from one that
 * only `"*"` lets in, which may be anybody's.
 */
export const isTrusted = ({ headers: { host, origin } }: IncomingMessage, policy: UpgradePolicy): boolean =>
  origin === undefined ||
  isSameOrigin(origin, host) ||
  (policy.allowedOrigins ?? []).some((other) => other.toLowerCase() === origin.toLowerCase())

/** Tells whether a request has come with TLS, or from this machine, where it may also have come through a proxy. */
const isPrivate = ({ socket }: IncomingMessage): boolean =>
  "encrypted" in socket || isLoopback(socket.localAddress ?? "localhost")

/**
 * Tells whether what is answered to a request crosses a network in the clear, as far as can be known (`Connection.exposed`). Of a proxy
 * that is trusted its `X-Forwarded-Proto` is believed, where it has one; several of them have all to say so.
 */
export const isExposed = (request: IncomingMessage, trusted: TrustedProxies): boolean => {
  if (!trusted(plainAddress(request.socket.remoteAddress ?? "unix"))) return !isPrivate(request)
  const said = (request.headersDistinct["x-forwarded-proto"] ?? []).flatMap((line) => line.split(","))
  if (said.length === 0) return !isPrivate(request)
  return (
    !said.every((scheme) => /^\s*(https|wss)\s*$/i.test(scheme)) &&
    !isLoopback(clientAddress(request, trusted))
  )
}

/** Why this upgrade is refused, or `undefined`. `boundHost` is the host the server listens on. */
export const check = (
  request: IncomingMessage,
  boundHost: string | undefined,
  policy: UpgradePolicy
): OriginRefusal | undefined => {
  const { host } = request.headers

  if (!isPrivate(request) && policy.allowInsecure !== true)
    return refuse("plaintext is accepted on loopback only: use wss://, or set allowInsecure")

  if (policy.allowedHosts !== undefined || (boundHost !== undefined && isLoopback(boundHost))) {
    const name = isPlain(host ?? "") ? normalised(parse(`http://${host ?? ""}`)?.hostname ?? "") : ""
    const allowed = [...(policy.allowedHosts ?? []), ...(boundHost === undefined ? [] : [boundHost])]
    if (name === "" || !(isLoopback(name) || allowed.some((other) => normalised(other) === name)))
      return refuse("this Host is not allowed: add its name to allowedHosts")
  }

  if (!isTrusted(request, policy) && policy.allowedOrigins?.includes("*") !== true)
    return refuse("this Origin is not allowed: add it to allowedOrigins")
  return undefined
}
