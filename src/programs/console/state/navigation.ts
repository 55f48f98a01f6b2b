/** The address of the page, which says what is shown. */
import { signal } from "@preact/signals"
import { format, parse, type Route } from "../model/route.js"

export const route = signal<Route>(parse(location.hash))

addEventListener("hashchange", () => {
  route.value = parse(location.hash)
})

/** Goes to another place, or stays; `replace`: without a place to go back to. */
export const go = (to: Route, how: "push" | "replace" = "push"): void => {
  const hash = format(to)
  if (how === "replace" || hash === location.hash) history.replaceState(null, "", hash)
  else history.pushState(null, "", hash)
  route.value = parse(hash)
}
