/** The page at `/demo`, which tries the demo agents from a browser. */
import { existsSync, readFileSync } from "node:fs"
import type { ServedPage } from "../../../layers/transport/WebSocketListener.js"
import { packageFile } from "../packageFile.js"

const file = (name: string) => packageFile(`dist/programs/demo/${name}`)

/** Only its own script and style, and connections to where it came from; nobody may frame it. */
const policy =
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

const page = (type: string, body: string): ServedPage => ({
  headers: {
    "content-type": `${type}; charset=utf-8`,
    "content-security-policy": policy,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store"
  },
  body
})

/** The pages of a runtime whose endpoint is at `path`; none when they were not built. */
export const demoPages = (path: string): Readonly<Record<string, ServedPage>> => {
  if (!existsSync(file("page.bundle.js"))) return {}
  const read = (name: string) => readFileSync(file(name), "utf8")
  const escaped = path.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`)
  return {
    "/demo": page(
      "text/html",
      read("index.html").replace("{{path}}", () => escaped)
    ),
    "/demo/page.css": page("text/css", read("page.css")),
    "/demo/page.js": page("text/javascript", read("page.bundle.js"))
  }
}
