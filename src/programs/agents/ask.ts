/** The conformance agent `ask`: a question to people, whatever it is, and its answer. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { Timeout } from "../../protocol/Errors.js"
import * as JsonSchemaCheck from "../../protocol/JsonSchemaCheck.js"
import * as Agent from "../../services/agents/Agent.js"
import { Job } from "../../services/jobs/Job.js"

const AnySchema = Schema.Record({ key: Schema.String, value: Schema.Unknown })

/** Milliseconds, or text such as `3 days`. */
const Time = Schema.Union(Schema.Number.pipe(Schema.positive()), Schema.String).pipe(
  Schema.filter((time) => Option.isSome(Duration.decodeUnknown(time)), {
    description: "milliseconds, or a text such as 3 days"
  })
)

/** A schema that takes what a JSON Schema takes, and is described by it. */
const taking = (schema: typeof AnySchema.Type): Schema.Schema<unknown> =>
  Schema.declare(
    (value: unknown): value is unknown => JsonSchemaCheck.problem(schema, value, "value") === undefined,
    { jsonSchema: schema, description: "what the schema of the question says" }
  )

/** Asks, and returns the answer. When nobody has answered in time, the job fails with `TIMEOUT`. */
export const ask = Agent.handle(
  Agent.make("ask", {
    version: "1.0.0",
    durable: true,
    input: Schema.Struct({
      prompt: Schema.String,
      /** JSON Schema of an answer. */
      schema: Schema.optional(AnySchema),
      choices: Schema.optional(Schema.Array(Schema.Unknown)),
      about: Schema.optional(Schema.Unknown),
      expiresIn: Schema.optional(Time),
      tellValue: Schema.optional(Schema.Boolean)
    })
  }),
  ({ schema, expiresIn, ...question }) =>
    Effect.flatMap(Job, (job) =>
      job.input("ask", {
        ...question,
        schema: schema === undefined ? undefined : taking(schema),
        expiresIn:
          expiresIn === undefined ? undefined : Option.getOrUndefined(Duration.decodeUnknown(expiresIn))
      })
    ).pipe(Effect.catchTag("InputExpired", ({ message }) => new Timeout({ message })))
)
