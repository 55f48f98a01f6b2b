/** `arcp serve`: a runtime on a port, or on stdin and stdout. */
import * as Command from "./Command.js"
import { logLevel } from "./client-flags.js"
import * as CliOptions from "./Flags.js"
import { isShipped } from "./shipped.js"

const text = (name: string, description: string) =>
  CliOptions.text(name).pipe(CliOptions.withDescription(description), CliOptions.optional)
const integer = (name: string, description: string) =>
  CliOptions.integer(name).pipe(CliOptions.withDescription(description), CliOptions.optional)

export const logFormat = (fallback: "pretty" | "logfmt") =>
  CliOptions.choice("log-format", ["pretty", "json", "logfmt"]).pipe(
    CliOptions.withDescription("how the log is written, with --json json"),
    CliOptions.withDefault(fallback),
    CliOptions.sourced
  )

/** What `arcp serve` takes. */
export const options = {
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
    CliOptions.withDescription("origin of a web page that may connect"),
    CliOptions.repeated
  ),
  allowHost: CliOptions.text("allow-host").pipe(
    CliOptions.withDescription(
      "host name that clients may address this server by, such as a proxy's public name"
    ),
    CliOptions.repeated
  ),
  trustProxy: CliOptions.text("trust-proxy").pipe(
    CliOptions.withDescription("address or network of a proxy whose X-Forwarded-For says where a client is"),
    CliOptions.repeated
  ),
  noHttp: CliOptions.boolean("no-http").pipe(
    CliOptions.withDescription("answer no HTTP requests at /v1 (docs/http.md)")
  ),
  db: text("db", "SQLite file (default .arcp/arcp.db)"),
  pg: text("pg", "keep everything in the Postgres at this URL instead (docs/postgres.md); also ARCP_PG"),
  cluster: CliOptions.boolean("cluster").pipe(
    CliOptions.withDescription(
      "share that Postgres with other runtimes, as one of several nodes (docs/cluster.md)"
    )
  ),
  node: text("node", "name of this node (default the machine's and something random)"),
  advertise: text("advertise", "HOST:PORT where others reach this node; it is only shown"),
  memory: CliOptions.boolean("memory").pipe(CliOptions.withDescription("keep everything in memory instead")),
  synchronous: CliOptions.choice("synchronous", ["FULL", "NORMAL"]).pipe(
    CliOptions.withDescription("FULL survives a power cut, NORMAL the end of the process"),
    CliOptions.withDefault("FULL" as const)
  ),
  token: CliOptions.text("token").pipe(
    CliOptions.withDescription(
      "who may connect: TOKEN is what clients give as --token, PRINCIPAL who that is; also ARCP_TOKENS"
    ),
    CliOptions.repeated
  ),
  jwtSecret: text(
    "jwt-secret",
    "accept JWTs signed with this shared secret (HS256, HS384, HS512); also ARCP_JWT_SECRET"
  ),
  jwtPublicKey: text(
    "jwt-public-key",
    "accept JWTs signed with the private key that belongs to this public one (PEM)"
  ),
  jwtJwks: text("jwt-jwks", "accept JWTs signed with a key of the JWKS at this URL"),
  jwtIssuer: text("jwt-issuer", "issuer that JWTs must have"),
  jwtAudience: text("jwt-audience", "audience that JWTs must have"),
  jwtClockToleranceSec: integer(
    "jwt-clock-tolerance-sec",
    "seconds by which the clocks of issuer and runtime may differ (default 30)"
  ),
  identities: text("identities", "JSON file of who may connect: token, principal, agents, leaseCeiling"),
  cancel: CliOptions.choice("cancel", ["own-session", "principal"]).pipe(
    CliOptions.withDescription(
      "who may cancel a job while its session exists: that session, or every session of its principal"
    ),
    CliOptions.withDefault("own-session" as const)
  ),
  operator: CliOptions.text("operator").pipe(
    CliOptions.withDescription("PRINCIPAL that may cancel, and delete, every job"),
    CliOptions.repeated
  ),
  observer: CliOptions.text("observer").pipe(
    CliOptions.withDescription("PRINCIPAL that may list and watch every job and session"),
    CliOptions.repeated
  ),
  workspace: text(
    "workspace",
    "directory that relative paths of agents start from (default the current one)"
  ),
  agents: CliOptions.text("agents").pipe(
    CliOptions.withDescription(
      "demo, conformance, or a module that exports agents; demo unless one is named"
    ),
    CliOptions.repeated
  ),
  concurrency: CliOptions.text("concurrency").pipe(
    CliOptions.withDescription(
      "how many jobs of an agent (each version of it) run at once, as NAME=N; what is submitted beyond waits as pending"
    ),
    CliOptions.repeated
  ),
  webhook: text("webhook", "tell this URL of jobs that wait for an answer, have ended, or are parked"),
  webhookSecretFile: text(
    "webhook-secret-file",
    "what its requests are signed with, whsec_…, one a line; also ARCP_WEBHOOK_SECRET"
  ),
  webhookEvent: CliOptions.choice("webhook-event", ["waiting", "ended", "parked"]).pipe(
    CliOptions.withDescription("tell only of this: waiting, ended or parked"),
    CliOptions.repeated
  ),
  webhookValues: CliOptions.boolean("webhook-values").pipe(
    CliOptions.withDescription("tell it questions, results and error messages too")
  ),
  metrics: CliOptions.choice("metrics", ["local", "all", "off"]).pipe(
    CliOptions.withDescription(
      "who may read /metrics: whoever asks from this machine and not through a proxy, all, or nobody"
    ),
    CliOptions.withDefault("local" as const)
  ),
  metricsToken: text(
    "metrics-token",
    "who shows this as a bearer token may read /metrics from anywhere; also ARCP_METRICS_TOKEN"
  ),
  heartbeatSec: integer("heartbeat-sec", "seconds between heartbeats (default 30)"),
  resumeWindowSec: integer("resume-window-sec", "seconds a session outlives its connection (default 600)"),
  cancelGraceMs: integer("cancel-grace-ms", "milliseconds a cancelled job gets to clean up (default 30000)"),
  shutdownGraceMs: integer("shutdown-grace-ms", "milliseconds running jobs get at shutdown (default 5000)"),
  limit: CliOptions.text("limit").pipe(
    CliOptions.withDescription("any other option of the runtime as NAME=VALUE, e.g. maxJobsPerSession=500"),
    CliOptions.repeated
  ),
  logLevel,
  logFormat: logFormat("logfmt"),
  json: CliOptions.boolean("json").pipe(
    CliOptions.withDescription("one JSON value per line on stdout and stderr")
  )
}

/** How help shows them: under which heading, with which word for the value. */
export const presentation: Readonly<Record<string, Readonly<Partial<Record<keyof typeof options, string>>>>> =
  {
    Address: {
      transport: "ws|stdio",
      host: "ADDRESS",
      port: "PORT",
      path: "PATH",
      allowInsecure: "",
      allowOrigin: "ORIGIN",
      allowHost: "HOST",
      trustProxy: "ADDRESS",
      noHttp: ""
    },
    Agents: { agents: "NAME|FILE", concurrency: "NAME=N", workspace: "DIRECTORY" },
    Store: { db: "FILE", pg: "URL", memory: "", synchronous: "FULL|NORMAL" },
    Cluster: { cluster: "", node: "NAME", advertise: "HOST:PORT" },
    "Who is told": {
      webhook: "URL",
      webhookSecretFile: "FILE",
      webhookEvent: "EVENT",
      webhookValues: ""
    },
    "Who looks on": { metrics: "local|all|off", metricsToken: "TOKEN" },
    "Who may connect": {
      token: "TOKEN=PRINCIPAL",
      identities: "FILE",
      jwtSecret: "SECRET",
      jwtPublicKey: "FILE",
      jwtJwks: "URL",
      jwtIssuer: "ISSUER",
      jwtAudience: "AUDIENCE",
      jwtClockToleranceSec: "N",
      cancel: "own-session|principal",
      operator: "PRINCIPAL",
      observer: "PRINCIPAL"
    },
    Limits: {
      heartbeatSec: "N",
      resumeWindowSec: "N",
      cancelGraceMs: "N",
      shutdownGraceMs: "N",
      limit: "NAME=VALUE"
    },
    Output: { logLevel: "LEVEL", logFormat: "pretty|json|logfmt", json: "" }
  }

/** What of the flags nobody looks at, by where the server is and what it keeps everything in. */
export const onlys: ReadonlyArray<Command.Only> = [
  {
    flags: [
      ...["host", "port", "path", "allow-insecure", "allow-origin", "allow-host", "trust-proxy"],
      ...["no-http", "metrics", "metrics-token", "open"]
    ],
    where: ({ texts }) => texts.get("transport")?.[0] !== "stdio",
    why: "is for a server on a port, and does nothing with --transport stdio",
    warns: true
  },
  {
    flags: ["synchronous"],
    where: (written) => !Command.isOn(written, "memory") && !written.texts.has("pg"),
    why: "is for a SQLite file, and does nothing with --memory or --pg",
    warns: true
  }
]

export type ServeFlags = CliOptions.Values<typeof options>

export const serve = Command.make(
  {
    name: "serve",
    summary: "Run agents and serve them to ARCP clients",
    flags: CliOptions.presented(options, presentation),
    onlys,
    untilSignal: true,
    serves: true,
    examples: [
      "arcp serve                                          # demo agents, port 7777",
      "arcp serve --agents ./agents.mjs --token secret=me  # agents of yours",
      "arcp serve --memory --port 0                        # no file, a free port",
      "arcp serve --pg postgres://arcp@db.internal/arcp    # in Postgres",
      "arcp serve --pg URL --cluster --node a              # one of several",
      "arcp serve --transport stdio --agents ./agents.mjs  # for a parent process"
    ],
    more: {
      Environment: [
        "ARCP_TOKENS                         TOKEN=PRINCIPAL,… in place of --token",
        "ARCP_JWT_SECRET                     in place of --jwt-secret",
        "ARCP_METRICS_TOKEN                  in place of --metrics-token",
        "ARCP_PG                             in place of --pg, which others see with its password",
        "OTEL_EXPORTER_OTLP_ENDPOINT, …      collector of traces, metrics, logs",
        "ARCP_WEBHOOK_SECRET                 what requests to --webhook are signed with",
        "ARCP_LITELLM_URL, ARCP_LITELLM_KEY  gateway that mints a job's own model keys"
      ]
    },
    modules: ({ texts }) => (texts.get(options.agents.name) ?? []).filter((name) => !isShipped(name))
  },
  () => import("./run/serve.js")
)
