/**
 * Where the runtime is: below the same prefix as this page, which a proxy may have put before its path and the server does not
 * know of.
 */
const meta = (name: string, otherwise: string): string =>
  document.querySelector<HTMLMetaElement>(`meta[name="${name}"]`)?.content || otherwise

/** Where the console is, as the server has it. */
const consolePath = meta("arcp-console", "/console")

/** What a proxy has put before the path of this page. */
const prefix = ((): string => {
  const path = location.pathname.replace(/\/+$/, "")
  return path.endsWith(consolePath) ? path.slice(0, path.length - consolePath.length) : ""
})()

/** Returns the address of a path of the server's, as this page has to ask for it. */
export const placeOf = (path: string): string => `${prefix}${path}`

/** Where a login's code is exchanged. */
export const loginPlace = placeOf(`${consolePath}/login`)

/** The runtime's endpoint. */
export const url = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${placeOf(meta("arcp-path", "/arcp"))}`
