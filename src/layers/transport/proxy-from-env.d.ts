declare module "proxy-from-env" {
  /** Returns the URL of the proxy for this URL by the environment variables; empty when there is none. */
  export function getProxyForUrl(url: string): string
}
