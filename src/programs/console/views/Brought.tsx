/** What a link has brought that would log in: it is somebody's who is here to say whether they want it. */
import { useEffect, useRef, useState } from "preact/hooks"
import { line, plain } from "../model/text.js"
import { token } from "../state/connection.js"
import { accept, brought, decline } from "../state/links.js"
import { principal, principalOf } from "../state/whoami.js"

/** Whose a login is that a link has brought, as far as that can be known before it is used. */
const useWhose = (kind: "token" | "code" | undefined, value: string): string => {
  const [whose, setWhose] = useState<string | undefined | null>(null)
  useEffect(() => {
    setWhose(null)
    if (kind !== "token") return
    let isCurrent = true
    void principalOf(value).then((found) => isCurrent && setWhose(found))
    return () => {
      isCurrent = false
    }
  }, [kind, value])
  if (kind === "code") return "Whose it is shows when it is used: its code holds once. "
  if (whose === null) return ""
  return whose === undefined ? "This server does not say whose it is. " : `It is that of ${line(whose, 80)}. `
}

export const BroughtLogin = () => {
  const link = brought.value
  const no = useRef<HTMLButtonElement>(null)
  const isThere = link !== undefined
  useEffect(() => {
    if (isThere) no.current?.focus()
  }, [isThere])
  const whose = useWhose(link?.kind, link?.value ?? "")
  if (link === undefined) return null
  const isIn = token() !== undefined
  return (
    <section
      class="panel notice brought"
      role="alertdialog"
      aria-labelledby="brought-title"
      aria-describedby="brought-text"
      onKeyDown={(event) => {
        if (event.key === "Escape") decline()
      }}
    >
      <h2 id="brought-title">A link wants to log this tab in</h2>
      <p id="brought-text">
        It brings a login of its own for {location.host}. <bdi>{whose}</bdi>
        {isIn
          ? `You are logged in ${principal.value === undefined ? "already" : `as ${line(principal.value, 80)}`}, and stay so unless you say otherwise. `
          : ""}
        Who made the link sees what you submit with it: use it only when you know whose it is.
      </p>
      {link.problem === undefined ? null : (
        <p class="problem" role="alert">
          {plain(link.problem, 300)}
        </p>
      )}
      <div class="row">
        <button ref={no} type="button" onClick={decline}>
          {isIn ? "Stay as I am" : "Do not use it"}
        </button>
        <button type="button" data-settles onClick={() => void accept()}>
          {isIn ? "Log in with it instead" : "Log in with it"}
        </button>
      </div>
    </section>
  )
}
