/** As whom this tab is logged in, as far as the server says so: a session does not. */
import { effect, signal } from "@preact/signals"
import { textIn } from "../model/values.js"
import { client, token } from "./connection.js"
import { placeOf } from "./places.js"

/** The principal of this tab's token, once it is known. */
export const principal = signal<string | undefined>(undefined)

/** Returns whose a token is; `undefined` when the server does not know it, or does not say. */
export const principalOf = async (of: string): Promise<string | undefined> => {
  try {
    const response = await fetch(placeOf("/v1/me"), { headers: { authorization: `Bearer ${of}` } })
    return response.ok ? textIn(await response.json(), "principal") : undefined
  } catch {
    return undefined
  }
}

effect(() => {
  if (client.value === undefined) {
    principal.value = undefined
    return
  }
  const given = token()
  if (given === undefined) return
  void principalOf(given).then((found) => {
    // Another may have logged in meanwhile.
    if (token() === given) principal.value = found
  })
})
