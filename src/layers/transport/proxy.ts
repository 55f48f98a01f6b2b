/** The proxy that the usual environment variables name for a URL: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`. */
import type { Agent } from "node:http"
import * as Effect from "effect/Effect"
import { isLoopback } from "../../protocol/Loopback.js"
import { TransportError } from "../../services/transport/Transport.js"
import { label } from "./DialPolicy.js"

/** The way through a proxy, for one connection. */
export interface HttpProxy {
  /** Where it is, without what may be secret. */
  readonly label: string
  readonly agent: Agent
  /** What it has answered to `CONNECT`: a status; `undefined` before it has. */
  readonly answered: () => number | undefined
  /** Ends the wait for that answer: no request has the agent's socket by then, so that nothing else would. */
  readonly abandon: () => void
}

/** What the variables say that could name one. */
const named = (): ReadonlyArray<string> =>
  Object.entries(process.env).flatMap(([name, value]) =>
    /^(https?|all)_proxy$/i.test(name) && value !== undefined && value.trim() !== "" ? [value] : []
  )

/** A proxy without a scheme is spoken to in plain HTTP, as other programs do, whatever goes through it. */
const withScheme = (proxy: string): string =>
  named().some((value) => proxy === `https://${value}`) ? proxy.replace(/^https/, "http") : proxy

/** `127.0.0.1` of a proxy elsewhere is another machine, which would be shown a token that is to stay on this one. */
const leadsElsewhere = (url: string, proxy: string): boolean =>
  URL.canParse(proxy) && isLoopback(new URL(url).hostname) && !isLoopback(new URL(proxy).hostname)

const through = async (url: string): Promise<HttpProxy | undefined> => {
  const [{ getProxyForUrl }, { HttpsProxyAgent }] = await Promise.all([
    import("proxy-from-env"),
    import("https-proxy-agent")
  ])
  // The variables are named after what a WebSocket begins as.
  const proxy = withScheme(getProxyForUrl(url.replace(/^ws/i, "http"))).trim()
  if (proxy === "" || leadsElsewhere(url, proxy)) return undefined
  if (!/^https?:/i.test(proxy) || !URL.canParse(proxy))
    throw new TransportError({
      message: `${label(proxy)}, which the environment names as the proxy for ${label(url)}, is none: use http://HOST:PORT or https://…`
    })
  const waiting = new AbortController()
  const agent = new HttpsProxyAgent(proxy, { signal: waiting.signal })
  // Else the agent looks for it in the stack of whoever asks, which is not always long enough.
  const secureEndpoint = /^wss:/i.test(url)
  agent.protocol = secureEndpoint ? "https:" : "http:"
  Object.assign(agent.options, { secureEndpoint })
  let status: number | undefined
  agent.once("proxyConnect", ({ statusCode }: { readonly statusCode: number }) => {
    status = statusCode
  })
  return {
    label: label(proxy),
    agent,
    answered: () => status,
    abandon: () => {
      // Afterwards the socket is the request's, which ends it.
      if (status === undefined) waiting.abort()
    }
  }
}

/** Returns the proxy for a WebSocket URL, if the environment names one. */
export const forUrl = (url: string): Effect.Effect<HttpProxy | undefined, TransportError> =>
  Effect.suspend(() =>
    // Else nothing is loaded.
    named().length > 0
      ? Effect.tryPromise({
          try: () => through(url),
          catch: (cause) =>
            cause instanceof TransportError
              ? cause
              : new TransportError({
                  message: `the proxy for ${label(url)} that the environment names cannot be used: ${String(cause)}`,
                  cause
                })
        })
      : Effect.succeed(undefined)
  )
