/** Where a token is given, when the address brought none. */
import { useState } from "preact/hooks"
import { loginByHand } from "../state/connection.js"
import { phase } from "../state/presence.js"
import { BroughtLogin } from "./Brought.js"

export const Login = () => {
  const [token, setToken] = useState("")
  const message = phase.value._tag === "LoggedOut" ? phase.value.message : ""
  return (
    <main id="main" class="login" tabIndex={-1}>
      <BroughtLogin />
      <form
        class="panel"
        onSubmit={(event) => {
          event.preventDefault()
          if (token.trim() !== "") loginByHand(token.trim())
        }}
      >
        <h1>arcp console</h1>
        <label for="token">Token</label>
        <input
          id="token"
          type="password"
          autocomplete="off"
          spellcheck={false}
          required
          aria-describedby="token-help"
          value={token}
          onInput={(event) => setToken(event.currentTarget.value)}
        />
        <p id="token-help" class="quiet">
          The one that your clients use. <code>arcp serve</code> prints the one that it has made, and a link
          that logs in once. This tab forgets it when it is closed.
        </p>
        {message === "" ? null : (
          <p class="problem" role="alert">
            {message}
          </p>
        )}
        <button type="submit" class="primary">
          Log in
        </button>
      </form>
    </main>
  )
}
