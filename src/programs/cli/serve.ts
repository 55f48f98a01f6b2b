/** `arcp serve`: a runtime on a port, or on stdin and stdout. */
import { resolve } from "node:path"
import * as Command from "@effect/cli/Command"
import * as CliOptions from "@effect/cli/Options"
import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import type { FileSystem } from "@effect/platform/FileSystem"
import * as NodeContext from "@effect/platform-node/NodeContext"
import type { ConfigError } from "effect/ConfigError"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Auth from "../../layers/Auth.js"
import * as AuthJwt from "../../layers/AuthJwt.js"
import * as LiteLlm from "../../layers/CredentialProvisionerLiteLlm.js"
import * as CredentialStoreSql from "../../layers/CredentialStoreSql.js"
import * as Credentials from "../../layers/Credentials.js"
import * as IdGenerator from "../../layers/IdGenerator.js"
import * as Registry from "../../layers/Registry.js"
import * as Runtime from "../../layers/Runtime.js"
import * as RuntimeSqlite from "../../layers/RuntimeSqlite.js"
import * as SecretsLayer from "../../layers/Secrets.js"
import * as TransportStdio from "../../layers/TransportStdio.js"
import * as TransportWebSocket from "../../layers/TransportWebSocket.js"
import type { Auth as AuthTag } from "../../services/Auth.js"
import * as RuntimeOptions from "../../services/RuntimeOptions.js"
import { Secrets } from "../../services/Secrets.js"
import { TransportServer } from "../../services/Transport.js"
import { loadAgents } from "./agents-module.js"
import { readIdentities } from "./identities.js"
import { UsageError } from "./UsageError.js"

const text = (name: string, description: string) =>
  CliOptions.text(name).pipe(CliOptions.withDescription(description), CliOptions.optional)
const integer = (name: string, description: string) =>
  CliOptions.integer(name).pipe(CliOptions.withDescription(description), CliOptions.optional)

const options = {
  transport: CliOptions.choice("transport", ["ws", "stdio"]).pipe(
    CliOptions.withDescription("WebSocket on a port, or newline-delimited JSON on stdin and stdout"),
    CliOptions.withDefault("ws" as const)
  ),
  host: CliOptions.text("host").pipe(
    CliOptions.withDescription("address to listen on"),
    CliOptions.withDefault("127.0.0.1")
  ),
  port: CliOptions.integer("port").pipe(
    CliOptions.withDescription("port to listen on; 0 is any free one"),
    CliOptions.withDefault(7777)
  ),
  path: CliOptions.text("path").pipe(
    CliOptions.withDescription("path of the WebSocket endpoint"),
    CliOptions.withDefault("/arcp")
  ),
  allowInsecure: CliOptions.boolean("allow-insecure").pipe(
    CliOptions.withDescription("serve plaintext on an address that is not loopback (behind a TLS proxy)")
  ),
  allowOrigin: CliOptions.text("allow-origin").pipe(
    CliOptions.withDescription("origin of a web page that may connect; repeatable"),
    CliOptions.repeated
  ),
  db: text("db", "SQLite file (default .arcp/arcp.db)"),
  memory: CliOptions.boolean("memory").pipe(CliOptions.withDescription("keep everything in memory instead")),
  synchronous: CliOptions.choice("synchronous", ["FULL", "NORMAL"]).pipe(
    CliOptions.withDescription("FULL survives a power cut, NORMAL the end of the process"),
    CliOptions.withDefault("FULL" as const)
  ),
  token: CliOptions.text("token").pipe(
    CliOptions.withDescription("TOKEN=PRINCIPAL that may connect; repeatable; also ARCP_TOKENS"),
    CliOptions.repeated
  ),
  jwtSecret: text("jwt-secret", "accept JWTs signed with this shared secret (HS256, HS384, HS512)"),
  jwtPublicKey: text("jwt-public-key", "accept JWTs signed with the private key of this PEM file"),
  jwtJwks: text("jwt-jwks", "accept JWTs signed with a key of the JWKS at this URL"),
  jwtIssuer: text("jwt-issuer", "issuer that JWTs must have"),
  jwtAudience: text("jwt-audience", "audience that JWTs must have"),
  identities: text("identities", "JSON file of who may connect: token, principal, agents, leaseCeiling"),
  workspace: text(
    "workspace",
    "directory that relative paths of agents start from (default the current one)"
  ),
  agents: CliOptions.text("agents").pipe(
    CliOptions.withDescription(
      "demo, conformance, or a module that exports agents; repeatable (default demo)"
    ),
    CliOptions.repeated
  ),
  heartbeatSec: integer("heartbeat-sec", "seconds between heartbeats (default 30)"),
  resumeWindowSec: integer("resume-window-sec", "seconds a session outlives its connection (default 600)"),
  cancelGraceMs: integer("cancel-grace-ms", "milliseconds a cancelled job gets to clean up (default 30000)"),
  shutdownGraceMs: integer("shutdown-grace-ms", "milliseconds running jobs get at shutdown (default 5000)"),
  limit: CliOptions.text("limit").pipe(
    CliOptions.withDescription(
      "any other option of the runtime as NAME=VALUE, e.g. maxJobsPerSession=500; repeatable"
    ),
    CliOptions.repeated
  ),
  logLevel: CliOptions.choiceWithValue("log-level", [
    ["trace", LogLevel.Trace],
    ["debug", LogLevel.Debug],
    ["info", LogLevel.Info],
    ["warning", LogLevel.Warning],
    ["error", LogLevel.Error],
    ["none", LogLevel.None]
  ]).pipe(CliOptions.withDescription("how much is logged on stderr"), CliOptions.withDefault(LogLevel.Info)),
  json: CliOptions.boolean("json").pipe(
    CliOptions.withDescription("one JSON value per line on stdout and stderr")
  )
}

type Parsed = Command.Command.ParseConfig<typeof options>

const pair = (
  flag: string,
  value: string,
  example: string
): Effect.Effect<readonly [string, string], UsageError> => {
  // The value follows the last "=": tokens may be padded base64.
  const at = value.lastIndexOf("=")
  return at < 1 || at === value.length - 1
    ? Effect.fail(new UsageError({ message: `--${flag} takes ${example}` }))
    : Effect.succeed([value.slice(0, at), value.slice(at + 1)])
}

/** The flags that are options of the runtime. */
const runtimeOptions = (flags: Parsed): Effect.Effect<RuntimeOptions.Input, UsageError> =>
  Effect.gen(function* () {
    const input: Record<string, unknown> = {}
    for (const limit of flags.limit) {
      const [name, value] = yield* pair("limit", limit, "NAME=VALUE, e.g. --limit maxJobsPerSession=500")
      if (!Object.hasOwn(RuntimeOptions.RuntimeOptionsSchema.fields, name))
        return yield* new UsageError({
          message: `--limit: no option ${name}; there are ${Object.keys(RuntimeOptions.RuntimeOptionsSchema.fields).join(", ")}`
        })
      input[name] =
        value === "true" || (value === "false" ? false : Number.isNaN(Number(value)) ? value : Number(value))
    }
    const seconds = {
      heartbeatIntervalSec: flags.heartbeatSec,
      resumeWindowSec: flags.resumeWindowSec,
      cancelGraceMs: flags.cancelGraceMs,
      shutdownGraceMs: flags.shutdownGraceMs
    }
    for (const [name, value] of Object.entries(seconds)) if (Option.isSome(value)) input[name] = value.value
    input["workspace"] ??= resolve(Option.getOrElse(flags.workspace, () => "."))
    return yield* Schema.decodeUnknown(RuntimeOptions.RuntimeOptionsSchema)(input).pipe(
      Effect.mapError((error) => new UsageError({ message: `a limit is out of range: ${error.message}` }))
    )
  })

interface Authentication {
  readonly layer: Layer.Layer<AuthTag, AuthJwt.AuthJwtError | ConfigError>
  readonly token: string | undefined
}

/** Who may connect; and the token that was made because nobody was named. */
const authentication = (flags: Parsed): Effect.Effect<Authentication, UsageError | ConfigError, FileSystem> =>
  Effect.gen(function* () {
    const issuer = Option.getOrUndefined(flags.jwtIssuer)
    const audience = Option.getOrUndefined(flags.jwtAudience)
    const claims = {
      ...(issuer === undefined ? {} : { issuer }),
      ...(audience === undefined ? {} : { audience })
    }
    const key = yield* AuthJwt.keyFrom({
      secret: Option.map(flags.jwtSecret, Redacted.make),
      publicKeyFile: flags.jwtPublicKey,
      jwksUri: flags.jwtJwks
    }).pipe(Effect.mapError((error) => new UsageError({ message: error.message })))
    if (Option.isSome(key)) return { layer: AuthJwt.layer({ key: key.value, ...claims }), token: undefined }
    const identities = Option.isSome(flags.identities) ? yield* readIdentities(flags.identities.value) : {}
    const tokens = yield* Effect.forEach(flags.token, (token) => pair("token", token, "TOKEN=PRINCIPAL"))
    if (Option.isSome(flags.identities) || tokens.length > 0)
      return {
        layer: Auth.layerStatic({ ...identities, ...Object.fromEntries(tokens) }),
        token: undefined
      }
    if (yield* Auth.configured) return { layer: Auth.layerConfig, token: undefined }
    const made = (yield* Effect.flatMap(Secrets, (secrets) => secrets.resumeToken))
      .pipe(Redacted.value)
      .slice(3, 35)
    return { layer: Auth.layerStatic({ [made]: "local" }), token: made }
  }).pipe(Effect.provide(SecretsLayer.layer))

const announce = (flags: Parsed, token: string | undefined) =>
  Effect.gen(function* () {
    const { address } = yield* TransportServer
    if (flags.transport === "stdio") {
      if (token !== undefined) yield* Console.error(`token ${token}`)
      return
    }
    if (flags.json)
      return yield* Console.log(
        JSON.stringify({ listening: address, ...(token === undefined ? {} : { token }) })
      )
    yield* Console.log(`listening ${address}`)
    if (token !== undefined)
      yield* Console.log(
        `token ${token}\ntry: arcp submit survey --url ${address} --token ${token} --input '{"root":"."}' --lease 'fs.read=./**'`
      )
  })

/** Credentials out of the environment's LiteLLM gateway, remembered beside the database. */
const credentialsFor = (filename: string) =>
  Credentials.layer().pipe(
    Layer.provide(CredentialStoreSql.layerSqlite({ filename: CredentialStoreSql.beside(filename) })),
    Layer.provide(LiteLlm.layerConfig.pipe(Layer.provide(FetchHttpClient.layer))),
    Layer.provide(IdGenerator.layer)
  )

export const serve = Command.make("serve", options, (flags) =>
  Effect.gen(function* () {
    if (flags.memory && Option.isSome(flags.db))
      return yield* new UsageError({ message: "choose --db FILE or --memory, not both" })
    if (flags.port < 0 || flags.port > 65_535)
      return yield* new UsageError({ message: "--port takes 0 (any free port) to 65535" })
    const limits = yield* runtimeOptions(flags)
    const auth = yield* authentication(flags)
    const agents = yield* loadAgents(flags.agents.length === 0 ? ["demo"] : flags.agents)
    const filename = Option.getOrElse(flags.db, () => ".arcp/arcp.db")
    const provisioned = yield* LiteLlm.configured
    if (provisioned && flags.memory)
      yield* Effect.logWarning("--memory: no credentials are provisioned, they need a durable store")
    const runtime = flags.memory
      ? Runtime.layerMemory(limits)
      : RuntimeSqlite.layer(
          { filename, synchronous: flags.synchronous },
          limits,
          provisioned ? { credentials: credentialsFor(filename) } : {}
        )
    const transport =
      flags.transport === "stdio"
        ? TransportStdio.layer()
        : TransportWebSocket.layer({
            host: flags.host,
            port: flags.port,
            path: flags.path,
            allowInsecure: flags.allowInsecure,
            ...(flags.allowOrigin.length === 0 ? {} : { allowedOrigins: flags.allowOrigin })
          })
    // A port is served until a signal comes, stdin and stdout until the parent closes them.
    const serving =
      flags.transport === "stdio"
        ? Runtime.serveAll
        : Effect.zipRight(Layer.build(Runtime.serve), Effect.never)
    yield* announce(flags, auth.token).pipe(
      Effect.zipRight(serving),
      Effect.scoped,
      Effect.provide(
        transport.pipe(
          Layer.provideMerge(runtime),
          Layer.provide(Registry.layer(agents)),
          Layer.provide(auth.layer),
          Layer.provide(NodeContext.layer),
          Layer.provide(SecretsLayer.layer)
        )
      )
    )
  }).pipe(Effect.provide(stderrLogger(flags.json)), Logger.withMinimumLogLevel(flags.logLevel))
).pipe(Command.withDescription("Run agents and serve them to ARCP clients"))

/** Logs go to stderr: stdout is for the address, or for envelopes. */
const stderrLogger = (json: boolean) =>
  Logger.replace(
    Logger.defaultLogger,
    Logger.withConsoleError(json ? Logger.jsonLogger : Logger.logfmtLogger)
  )
