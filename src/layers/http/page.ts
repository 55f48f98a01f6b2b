/** A page that shows the OpenAPI document to people: made here, without scripts and without anything from elsewhere. */

/** What of the document is shown. */
interface Spec {
  readonly info: { readonly title: string; readonly description?: string | undefined }
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
  readonly components: { readonly schemas: Readonly<Record<string, object>> }
}

/** What is shown of the schema of a body: its members. */
interface Body {
  readonly $ref?: string | undefined
  readonly required?: ReadonlyArray<string> | undefined
  readonly properties?: Readonly<Record<string, Member>> | undefined
}

interface Member {
  readonly type?: string | undefined
  readonly description?: string | undefined
}

interface Parameter {
  readonly name: string
  readonly in: string
  readonly required?: boolean | undefined
  readonly description?: string | undefined
  readonly schema?: { readonly description?: string | undefined } | undefined
}

interface Operation {
  readonly summary?: string | undefined
  readonly parameters?: ReadonlyArray<Parameter> | undefined
  readonly requestBody?:
    | { readonly content: Readonly<Record<string, { readonly schema: object }>> }
    | undefined
  readonly responses?: Readonly<Record<string, { readonly description?: string | undefined }>> | undefined
}

const style = `:root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}
body{max-width:60rem;margin:0 auto;padding:1rem}
h2{font-size:1.1rem;margin:2rem 0 .25rem}
code,pre{font-family:ui-monospace,monospace}
table{border-collapse:collapse;width:100%}
td,th{text-align:left;vertical-align:top;padding:.25rem .75rem .25rem 0;border-bottom:1px solid #8884}
.method{display:inline-block;min-width:3.5rem;font-weight:700}`

const escaped = (text: string): string => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`)

const code = (text: string): string => `<code>${escaped(text)}</code>`

const row = (cells: ReadonlyArray<string>): string =>
  `<tr>${cells.map((cell) => `<td>${cell}</td>`).join("")}</tr>`

/** The members of a JSON body: what there is to be, of which type, and what it is for. */
const body = (schemas: Spec["components"]["schemas"], schema: Body) => {
  const { properties = {}, required = [] }: Body =
    (schema.$ref === undefined ? schema : schemas[schema.$ref.slice("#/components/schemas/".length)]) ?? {}
  return `<table><thead><tr><th>member of the body</th><th>type</th><th></th></tr></thead><tbody>${Object.entries(
    properties
  )
    .map(([name, { description = "", type = "any JSON" }]) =>
      row([
        code(name),
        escaped(type),
        escaped([...(required.includes(name) ? ["needed"] : []), description].filter(Boolean).join("; "))
      ])
    )
    .join("")}</tbody></table>`
}

const operation = (
  schemas: Spec["components"]["schemas"],
  path: string,
  method: string,
  { parameters = [], requestBody, responses = {}, summary = "" }: Operation
) =>
  `<section><h2><span class="method">${escaped(method.toUpperCase())}</span> ${code(path)}</h2><p>${escaped(summary)}</p>` +
  (parameters.length === 0
    ? ""
    : `<table><thead><tr><th>parameter</th><th>in</th><th></th></tr></thead><tbody>${parameters
        .map((one) =>
          row([code(one.name), escaped(one.in), escaped(one.description ?? one.schema?.description ?? "")])
        )
        .join("")}</tbody></table>`) +
  (requestBody === undefined
    ? ""
    : Object.values(requestBody.content)
        .map(({ schema }) => body(schemas, schema))
        .join("")) +
  `<details><summary>answers</summary><table><tbody>${Object.entries(responses)
    .map(([status, { description = "" }]) => row([code(status), escaped(description)]))
    .join("")}</tbody></table></details></section>`

/** Returns the page, and the style in it, which its policy has to name. */
export const page = (spec: Spec): { readonly html: string; readonly style: string } => ({
  style,
  html:
    `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">` +
    `<title>${escaped(spec.info.title)}</title><style>${style}</style></head><body><main><h1>${escaped(spec.info.title)}</h1>` +
    `<p>${escaped(spec.info.description ?? "")} The same as a document: <a href="/v1/openapi.json">openapi.json</a>.</p>` +
    `<p>Say who asks with ${code("Authorization: Bearer TOKEN")}; a token is never part of a URL.</p>` +
    Object.entries(spec.paths)
      .flatMap(([path, operations]) =>
        Object.entries(operations).map(([method, one]) =>
          operation(spec.components.schemas, path, method, one)
        )
      )
      .join("") +
    "</main></body></html>\n"
})
