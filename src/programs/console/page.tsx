/** The console at `/console`: a web application over the client of this package. */
import { render } from "preact"
import { begin } from "./state/connection.js"
import { keepFocus } from "./state/focus.js"
import { App } from "./views/App.js"

begin()
const root = document.getElementById("console")
if (root !== null) {
  render(<App />, root)
  keepFocus(root)
}
