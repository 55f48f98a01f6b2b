/** The OpenAPI document of the HTTP interface: what the platform makes of its declaration, put right where the answers are ours. */
import * as OpenApi from "@effect/platform/OpenApi"
import { api } from "./api.js"
import { eventStream, jsonLines } from "./events.js"

type Spec = ReturnType<typeof OpenApi.fromApi>
type Operation = NonNullable<Spec["paths"][string]["get"]>
type Content = Readonly<Record<string, { readonly schema: object }>>

/** Without the names that schemas have elsewhere (`$id`), of which a document may have each only once. */
const withoutIds = <A>(value: A): A =>
  JSON.parse(
    JSON.stringify(value, (key, member) => (key === "$id" && typeof member === "string" ? undefined : member))
  )

/** What is asked has no members but these; what is answered may have more some day. */
const bodies: ReadonlySet<string> = new Set(["Submit", "Cancel", "Answer"])

/** What the platform answers to requests that it reads itself; here they are read by the gateway. */
const unused: ReadonlySet<string> = new Set(["HttpApiDecodeError", "Issue", "PropertyKey"])

const text = { schema: { type: "string" } }
const bytes = { schema: { type: "string", format: "binary" } }

/** What an answer is that comes in more than one media type. */
const contents: Readonly<Record<string, Readonly<Record<string, Content>>>> = {
  events: { 200: { [eventStream]: text, [jsonLines]: text } },
  result: Object.fromEntries(
    ["200", "206"].map((status) => [
      status,
      { "application/json": { schema: {} }, "text/plain": text, "application/octet-stream": bytes }
    ])
  )
}

const problem: Content = {
  "application/problem+json": { schema: { $ref: "#/components/schemas/Problem" } }
}

/** Of an operation, an empty `security` would say that nobody need say who asks. */
const corrected = ({ security: _, ...operation }: Operation) => ({
  ...operation,
  responses: Object.fromEntries(
    Object.entries(operation.responses).map(([status, response]) => {
      const content = Number(status) >= 400 ? problem : contents[operation.operationId]?.[status]
      return [status, content === undefined ? response : { ...response, content }]
    })
  )
})

/** Makes the document, with how to say who asks. */
export const document = () => {
  const spec = withoutIds(OpenApi.fromApi(api, { additionalPropertiesStrategy: "allow" }))
  const paths = Object.entries(spec.paths).map(([path, operations]) => [
    path,
    Object.fromEntries(
      Object.entries(operations).map(([method, operation]) => [method, corrected(operation)])
    )
  ])
  const schemas = Object.entries(spec.components.schemas).flatMap(([name, schema]) =>
    unused.has(name) ? [] : [[name, bodies.has(name) ? { ...schema, additionalProperties: false } : schema]]
  )
  return {
    ...spec,
    paths: Object.fromEntries(paths),
    components: {
      ...spec.components,
      schemas: Object.fromEntries(schemas),
      securitySchemes: { bearer: { type: "http", scheme: "bearer" } }
    },
    security: [{ bearer: [] }]
  }
}
