/** Where a client is that may be behind proxies. */
import type { IncomingMessage } from "node:http"
import { BlockList, isIP, isIPv6 } from "node:net"

/** Returns an IPv4 address as such, also where the socket listens on both kinds. */
export const plainAddress = (address: string): string => address.replace(/^::ffff:(?=\d+\.)/i, "")

/** Tells whether a proxy at this address is believed; the address is `unix` on a Unix socket. */
export type TrustedProxies = (address: string) => boolean

/**
 * Returns which of these proxies are believed: IP addresses, networks as `10.0.0.0/8`, or `unix`. Throws a `TypeError` that
 * names what is none of them.
 */
export const trustedProxies = (proxies: ReadonlyArray<string>): TrustedProxies => {
  const list = new BlockList()
  for (const proxy of proxies) {
    if (proxy === "unix") continue
    const [address = "", prefix, ...rest] = proxy.split("/")
    const family = isIPv6(address) ? "ipv6" : "ipv4"
    const bits = family === "ipv6" ? 128 : 32
    const length = prefix === undefined ? bits : /^\d{1,3}$/.test(prefix) ? Number(prefix) : Number.NaN
    if (isIP(address) === 0 || !(length >= 0 && length <= bits) || rest.length > 0)
      throw new TypeError(
        `${proxy === "" ? '""' : proxy} is neither an IP address, nor a network as 10.0.0.0/8, nor unix`
      )
    list.addSubnet(address, length, family)
  }
  return (address) =>
    address === "unix"
      ? proxies.includes("unix")
      : isIP(address) > 0 && list.check(address, isIPv6(address) ? "ipv6" : "ipv4")
}

/** `192.0.2.1`, `192.0.2.1:443`, `2001:db8::1` or `[2001:db8::1]:443` as an address. */
const withoutPort = (text: string): string | undefined => {
  const bare = /^\[([^\]]*)\](?::\d+)?$/.exec(text)?.[1] ?? /^([\d.]+):\d+$/.exec(text)?.[1] ?? text
  const address = plainAddress(bare)
  return isIP(address) > 0 ? address : undefined
}

/**
 * Returns where the client of a request is: the last address of `X-Forwarded-For` that is no trusted proxy's, if it came
 * from one, else the other end of the socket. What an untrusted peer writes into that header is not looked at.
 */
export const clientAddress = (request: IncomingMessage, trusted: TrustedProxies): string => {
  let client = plainAddress(request.socket.remoteAddress ?? "unix")
  const hops = (request.headersDistinct["x-forwarded-for"] ?? []).flatMap((line) => line.split(","))
  while (hops.length > 0 && trusted(client)) {
    const before = withoutPort((hops.pop() ?? "").trim())
    if (before === undefined) break
    client = before
  }
  return client
}

/** Returns the group that an address is counted in: of IPv6 the network, of which one subscriber has all addresses. */
export const addressGroup = (address: string): string => {
  if (!isIPv6(address)) return address
  const [head = "", tail] = (address.split("%")[0] ?? "").split("::")
  const parts = (text: string | undefined) => (text === undefined || text === "" ? [] : text.split(":"))
  const missing = tail === undefined ? 0 : 8 - parts(head).length - parts(tail).length
  const all = [...parts(head), ...Array.from({ length: Math.max(0, missing) }, () => "0"), ...parts(tail)]
  return `${all
    .slice(0, 4)
    .map((part) => Number.parseInt(part, 16).toString(16))
    .join(":")}::/64`
}
