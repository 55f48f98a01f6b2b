/** What a link has brought that would log in: it is somebody's who is here to say whether they want it. */
import { useEffect, useRef } from "preact/hooks"
import { plain } from "../model/text.js"
import { token } from "../state/connection.js"
import { accept, brought, decline } from "../state/links.js"

export const BroughtLogin = () => {
  const link = brought.value
  const no = useRef<HTMLButtonElement>(null)
  const isThere = link !== undefined
  useEffect(() => {
    if (isThere) no.current?.focus()
  }, [isThere])
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
        It brings a login of its own for {location.host}.{" "}
        {isIn ? "You are logged in already, and stay so unless you say otherwise. " : ""}
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
        <button type="button" onClick={() => void accept()}>
          {isIn ? "Log in with it instead" : "Log in with it"}
        </button>
      </div>
    </section>
  )
}
