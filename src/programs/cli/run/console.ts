/** The console of `arcp serve`: where it is, and the link that logs in once. */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as SecretsLayer from "../../../layers/runtime/Secrets.js"
import * as WebConsole from "../../../layers/transport/WebConsole.js"

/** Returns the login of a server that has made a token; where the operator named who may connect, there is none. */
export const loginFor = (token: string | undefined): Effect.Effect<WebConsole.Login | undefined> =>
  token === undefined
    ? Effect.succeed(undefined)
    : Effect.provide(WebConsole.login(Redacted.make(token)), SecretsLayer.layer)

/** Returns the address of the console of the endpoint at `address`. */
export const consoleAddress = (address: string, login: WebConsole.Login | undefined): string => {
  const page = new URL(WebConsole.defaultPath, address.replace(/^ws/, "http"))
  // After the #, which no server sees.
  if (login !== undefined) page.hash = new URLSearchParams({ code: Redacted.value(login.code) }).toString()
  return page.href
}
