/** The console at `/console`: a web application over the client of this package. */
import { render } from "preact"
import { keepFocus, keepValues } from "./state/focus.js"
import { begin } from "./state/links.js"
import { settle } from "./state/settling.js"
import { App } from "./views/App.js"

begin()
const root = document.getElementById("console")
if (root !== null) {
  render(<App />, root)
  keepFocus(root)
  keepValues(root)
  settle(root)
}
