/** What answers for the console; loaded with its first request. */
import { existsSync, readFileSync } from "node:fs"
import * as FileSystem from "@effect/platform/FileSystem"
import type * as HttpApp from "@effect/platform/HttpApp"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { trimmed } from "./requestPath.js"
import { defaultPath, type Options } from "./WebConsole.js"

/** Only its own script and style, and connections to where it came from; nobody may frame it. */
const policy =
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

const headers = {
  "content-security-policy": policy,
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "permissions-policy": "camera=(), geolocation=(), microphone=()",
  "cache-control": "no-store"
}

/** A file of the console's; from the compiled modules and from the bundles alike the package begins three steps up. */
const file = (name: string) => new URL(`../../../dist/programs/console/${name}`, import.meta.url)

/** An attribute's value, whatever it is. */
const escaped = (text: string) => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`)

const answered = (body: string, type: string, status = 200) =>
  HttpServerResponse.text(body, { status, contentType: `${type}; charset=utf-8`, headers })

const said = (status: number, message: string) =>
  answered(JSON.stringify({ message }), "application/json", status)

/** What a login says in its body; there is no more in it than a code. */
const mostBytes = FileSystem.Size(1024)

const codeOf = Effect.gen(function* () {
  const request = yield* HttpServerRequest.HttpServerRequest
  // What a form of another page's can send is no JSON.
  if (!/^application\/json\b/i.test(request.headers["content-type"] ?? "")) return undefined
  const body = yield* request.json
  return typeof body === "object" && body !== null && "code" in body && typeof body.code === "string"
    ? body.code
    : undefined
}).pipe(
  HttpServerRequest.withMaxBodySize(Option.some(mostBytes)),
  Effect.orElseSucceed(() => undefined)
)

const exchanged = (login: Options["login"]) =>
  Effect.gen(function* () {
    const code = yield* codeOf
    if (code === undefined || code.length > 200) return said(400, "a login is JSON with a code")
    const token = login === undefined ? Option.none() : yield* login.exchange(code)
    return Option.match(token, {
      onNone: () =>
        said(
          403,
          "the login link was used, or its time is over: log in with the token, or start the server anew"
        ),
      onSome: (token) => answered(JSON.stringify({ token: Redacted.value(token) }), "application/json")
    })
  })

/** A file, as it is at the address that was asked for. */
type Served = (url: string) => readonly [body: string, type: string]

/** Where the files beside the page are, from its address: a proxy may have put something before it that is not known here. */
const hereOf = (path: string, url: string) =>
  (url.split("?")[0] ?? url).endsWith("/") ? "." : `./${path.slice(path.lastIndexOf("/") + 1)}`

/** The files by path; none when they were not built. */
const filesOf = (path: string, endpoint: string, loads: string): ReadonlyMap<string, Served> => {
  if (!existsSync(file("page.bundle.js"))) return new Map()
  const read = (name: string) => readFileSync(file(name), "utf8")
  const page = read("index.html")
    .replaceAll("{{path}}", () => escaped(endpoint))
    .replaceAll("{{console}}", () => escaped(path))
    .replaceAll("{{loads}}", () => escaped(loads))
  const [style, script] = [read("page.css"), read("page.bundle.js")]
  return new Map<string, Served>([
    [path, (url) => [page.replaceAll("{{here}}", () => escaped(hereOf(path, url))), "text/html"]],
    [`${path}/page.css`, () => [style, "text/css"]],
    [`${path}/page.js`, () => [script, "text/javascript"]]
  ])
}

/** Returns the app of a console. */
export const make = ({
  endpoint = "/arcp",
  loads = "",
  login,
  path = defaultPath
}: Options): HttpApp.Default => {
  const at = trimmed(path)
  const files = filesOf(at, endpoint, loads)
  return Effect.gen(function* () {
    const { method, url } = yield* HttpServerRequest.HttpServerRequest
    const asked = trimmed(url.split("?")[0] ?? url)
    if (asked === `${at}/login`)
      return method === "POST" ? yield* exchanged(login) : said(405, "a login is posted")
    const found = files.get(asked)?.(url)
    if (found === undefined) return answered("not found\n", "text/plain", 404)
    return method === "GET" || method === "HEAD"
      ? answered(...found)
      : answered("this page can only be read\n", "text/plain", 405)
  })
}
