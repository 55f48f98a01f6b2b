import { readdirSync, readFileSync } from "node:fs"
import ts from "typescript-api"
import { expect, it } from "vitest"

/**
 * Every name that a user can import, by entry: types after a `~`. What is added or taken away here is so on purpose:
 * it goes into the change log.
 */
const surface: Record<string, Record<string, string>> = {
  index: {
    Admission: "Admission later layer layerAdmitAll layerRateLimit ~RateLimitOptions ~Submit",
    Agent:
      "~About ~AgentOptions ~Contract fromPromise handle make ~Outcome ~PromiseJob ~Registered ~Restart ~ServiceTag",
    ArcpClient:
      "~AnswerOptions ArcpClient ~ArcpClientService ~ClientError ~EventOf fork ~Gap ~InputRequest isRetryable ~JobCredential ~JobEvent ~JobHandle ~Known later ~Latest layer ~ListOptions make ~Options ~OtherEvent ProtocolViolation RequestTimeout ~ResultFile ~ResumeState retrySchedule ~Status ~SubmitMethod ~SubmitOptions ~Token ~TokenSource TokenUnavailable",
    Auth: "Auth ~AuthRequest behindProxy cookie fromPeer fromToken header ~Identity layerConfig layerDev layerStatic ~PeerJudge ~ProxyOptions ~TokenVerifier withPeer",
    ClientState:
      "~ClientState ~KeptJobs keptJobs keyValueStore ~Opened ~Saved ~SavedJob ~StateStore ~StoreOptions",
    Committed: "Committed ~CommittedEvent ~CommittedJob ~Consumer consumer ~Options ~Subscription",
    CredentialProvisioner:
      "CredentialProvisioner ~CredentialProvisionerService ~Minted ~MintRequest ProvisionError",
    CredentialProvisionerLiteLlm: "CredentialProvisionerLiteLlmError layer layerConfig ~Options",
    CredentialStore:
      "~CredentialRecord ~CredentialState CredentialStore ~CredentialStoreService ~SharedCredentials",
    CredentialStoreMemory: "layer",
    Credentials:
      "~Credential ~CredentialConstraints ~CredentialJob Credentials ~Input layer layerNone ~Options",
    DialerWebSocketGlobal: "layer ~Options",
    Errors:
      "AgentNotAvailable AgentVersionNotAvailable ~ArcpError BudgetExhausted Cancelled DuplicateKey ~ErrorCode ~ErrorFields ~ErrorPayload HeartbeatLost InternalError InvalidRequest isArcpError isRetryable JobNotFound LeaseExpired LeaseSubsetViolation PermissionDenied ResumeWindowExpired Timeout Unauthenticated",
    Event:
      "~AnyVendorEvent ArtifactRef ~Body Delegate ~Emits ~Event EventPayload ~Kind kinds Log LogLevel Metric Progress ResultChunk Status Thought ToolCall ToolResult vendor ~VendorEvent ~VendorKind",
    EventLog: "EventLog ~JobLog ~NewEvent ~Page ~Secret ~View",
    Features: "all ~Feature",
    Hooks: "~EndedCall ~Handlers ~HookCall HookError Hooks layer layerNone ~ParkedCall ~WaitingCall",
    HooksWebhook: "HooksWebhookError layer ~Options",
    IdGenerator: "IdGenerator ~IdPrefix layer",
    Job: "~AskInput ~Delegate ~Delegated ~DelegateOptions ~Emit ~EmitError ~EmitOptions InputExpired ~InputOptions Job ~JobService ~ResultEnd ~ResultStream ~RunStep Step ~StepError ~StepOptions ~StepService",
    Jobs: "~CancelRequest Jobs ~JobSession ~Outgoing ~SubmitRequest ~SubscribeRequest",
    Lease: "Constraints ~Cost ~FetchBounds Lease ~LeaseError leaseErrorOf ~LeaseService reserved Terms",
    Leased: "lazily ~Leased ~Lessee make",
    Message: "Accepted AgentEntry JobEntry JobStatus ListJobs Subscribed",
    Metrics: "layer Metrics ~MetricsService prometheus ~Sample ~Source",
    Policy: "~Decision layer layerSamePrincipal ~Options Policy ~Refusal refuse",
    Registry: "~AgentRef AgentRegistrationError layer Registry ~Requirements",
    Runtime:
      "~EventLogLayer ~Failures ~JobsLayer layer layerMemory ~Only ~OnlyIn ~Parts ~Requirements serve serveAll ~Services ~StartError",
    RuntimeOptions: "~Input layer layerConfig ~Options RuntimeOptions RuntimeOptionsSchema",
    Secrets: "layer Secrets",
    Sessions: "Sessions",
    Store:
      "~Batch Fenced ~HookEvent ~JobFilter ~JobRecord ~JournalEntry ~JournalIndexEntry ~LateEvent ~Numbering ~Observed Op ~Run ~SessionRecord Store ~StoredEvent StoreError ~StoreService ~Survival ~Wish",
    StoreMemory: "layer",
    Tools:
      "~Call ~CallOptions ~Contract ~Failures handle ~Item ~JsonSchema layer leased make ~Ran ~Registered ~Requirements ~Restore ~Source ToolFailure ~ToolInfo ~ToolOptions ToolRegistrationError Tools ~ToolsService",
    Transport:
      "~ClientCertificate closeCode Closed ~Connection Dialer ~Evidence ~Inbound ~Peer TransportError TransportServer Unreadable",
    TransportMemory: "layer"
  },
  node: {
    CredentialStoreSql: "~FileOptions layer layerSqlite layerSqliteShared ~Options",
    DialerStdio: "layer ~Options",
    DialerWebSocket: "layer ~Options",
    HttpClientPublic: "layer",
    HttpRoutes: "HttpRoutes layer ~RefusalWriter ~RouteApp ~RouteRefusal Visitor ~VisitorShape",
    RuntimeSqlite: "layer",
    StoreSql: "layer migrate ~Options ~TableOptions",
    StoreSqlite: "layer layerReadOnly ~Options",
    Telemetry:
      "~App healthz layerHealth layerMetrics layerOtlp layerProcess metrics ~OtlpOptions ~Readers readyz ~Unreadiness",
    TransportStdio: "layer ~Options",
    TransportWebSocket:
      "~Acceptor acceptor layer mount ~MountOptions ~Options ~OptionsWithRoutes protect refuse route ~ServedPage ~UpgradePolicy ~UpgradeRefusal",
    WebConsole: "app layer ~Login login ~Options"
  },
  http: { HttpGateway: "api app HttpGatewayError layer ~Options Problem" },
  pg: { RuntimeCluster: "~Cluster layer ~Options", StorePg: "layer ~Options ~Stores" },
  testing: {
    Check: "CheckFailed endedOnce events exactly inOrder numbered ~Pattern seen",
    Faults: "~At Faults ~Frame layer ~Rule seeded ~Side",
    ScriptedRuntime:
      "accepted event jobError layer message ~Received result ~Scripted ScriptedRuntime sessionError subscribed welcome",
    TestRuntime:
      "~ClientOptions connect ~Crashable crashable ~CrashPoint ~CrashReport ~CrashRun ~Died everyCrash ~EveryCrashOptions ~Failures layer ~Options ~RegistryOptions ~Requirements ~Services"
  },
  promise: {
    "": "~AgentEntry ~AnswerOptions Arcp ~Body ~ByDialer ~ByUrl ~ClientError ~ConnectOptions ~Credential Detached ~EventOf fork ~Gap ~InputRequest isRetryable ~Job ~JobEntry ~JobEvent ~Kind ~Known later ~Lease ~LeaseConstraints ~ListOptions ~Live ~OtherEvent ProtocolViolation RequestTimeout ~ResultFile ~ResumeState ~Session ~Status ~Storage ~SubmitOptions ~Subscribed ~SubscribeOptions TokenUnavailable TransportError",
    Errors:
      "AgentNotAvailable AgentVersionNotAvailable ~ArcpError BudgetExhausted Cancelled DuplicateKey ~ErrorCode ~ErrorFields ~ErrorPayload HeartbeatLost InternalError InvalidRequest isArcpError isRetryable JobNotFound LeaseExpired LeaseSubsetViolation PermissionDenied ResumeWindowExpired Timeout Unauthenticated"
  },
  jwt: {
    AuthJwt: "~Algorithm AuthJwtError ~Key layer ~Options"
  },
  ai: {
    LeasedLanguageModel: "leased ~Options ~Price upstreamSpendCap",
    ToolsToolkit: "make"
  },
  mcp: {
    ToolsMcp: "http ~HttpOptions layerHttp layerStdio McpConnectionError stdio ~StdioOptions"
  }
}

const source = new URL("../src/", import.meta.url)

type Exports = Map<string, "value" | "type" | Exports>

const parse = (file: URL): ts.SourceFile =>
  ts.createSourceFile(file.pathname, readFileSync(file, "utf8"), ts.ScriptTarget.ES2022, true)

const isExported = (statement: ts.Statement): boolean =>
  ts.canHaveModifiers(statement) &&
  (ts.getModifiers(statement) ?? []).some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword)

const kindOf = (statement: ts.Statement): "value" | "type" =>
  ts.isInterfaceDeclaration(statement) || ts.isTypeAliasDeclaration(statement) ? "type" : "value"

const declared = (statement: ts.Statement): ReadonlyArray<string> => {
  if (ts.isVariableStatement(statement))
    return statement.declarationList.declarations.map(({ name }) => name.getText())
  const { name } = statement as ts.DeclarationStatement
  return name === undefined ? [] : [name.getText()]
}

const reexported = (file: URL, statement: ts.ExportDeclaration): Exports => {
  const found: Exports = new Map()
  const clause = statement.exportClause
  if (clause !== undefined && ts.isNamedExports(clause)) {
    for (const { isTypeOnly, name } of clause.elements)
      found.set(name.text, isTypeOnly || statement.isTypeOnly ? "type" : "value")
    return found
  }
  const path = (statement.moduleSpecifier as ts.StringLiteral).text.replace(/\.js$/, ".ts")
  const inner = exportsOf(new URL(path, file))
  return clause === undefined ? inner : found.set(clause.name.text, inner)
}

const exportsOf = (file: URL): Exports => {
  const found: Exports = new Map()
  for (const statement of parse(file).statements) {
    if (ts.isExportDeclaration(statement))
      for (const [name, what] of reexported(file, statement)) found.set(name, what)
    else if (isExported(statement))
      // A schema and the type of the same name are one export.
      for (const name of declared(statement))
        if (found.get(name) !== "value") found.set(name, kindOf(statement))
  }
  return found
}

const line = (exports: Exports): string =>
  [...exports]
    .filter(([, what]) => !(what instanceof Map))
    .map(([name, what]) => (what === "type" ? `~${name}` : name))
    .sort((a, b) => (a.replace("~", "").toLowerCase() < b.replace("~", "").toLowerCase() ? -1 : 1))
    .join(" ")

const listed = (entry: string): Record<string, string> => {
  const exports = exportsOf(new URL(`${entry}.ts`, source))
  const own = line(exports)
  return {
    ...(own === "" ? {} : { "": own }),
    ...Object.fromEntries(
      [...exports].flatMap(([name, what]) => (what instanceof Map ? [[name, line(what)]] : []))
    )
  }
}

it.each(Object.keys(surface))("effect-arcp: what %s exports is what is listed here", (entry) => {
  expect(listed(entry)).toEqual(surface[entry])
})

it("a public module names what it exports", () => {
  for (const file of readdirSync(new URL("public/", source)))
    for (const statement of parse(new URL(`public/${file}`, source)).statements) {
      const names = ts.isExportDeclaration(statement) ? statement.exportClause : undefined
      expect(names !== undefined && ts.isNamedExports(names), `${file}: ${statement.getText()}`).toBe(true)
    }
})

/** Optional properties that `undefined` cannot be given to. */
const absentOnly = (file: URL): ReadonlyArray<string> => {
  const takesUndefined = (type: ts.TypeNode | undefined): boolean =>
    type === undefined ||
    type.kind === ts.SyntaxKind.UndefinedKeyword ||
    type.kind === ts.SyntaxKind.UnknownKeyword ||
    (ts.isUnionTypeNode(type) && type.types.some(takesUndefined))
  const found: Array<string> = []
  const look = (node: ts.Node): void => {
    if (ts.isPropertySignature(node) && node.questionToken !== undefined && !takesUndefined(node.type))
      found.push(`${file.pathname.replace(source.pathname, "")}: ${node.getText()}`)
    ts.forEachChild(node, look)
  }
  look(parse(file))
  return found
}

it("an option may be given as undefined, which is as if it were not, under exactOptionalPropertyTypes too", () => {
  const files = ["services", "layers", "testing", "promise"].flatMap((room) =>
    readdirSync(new URL(`${room}/`, source), { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".ts"))
      .map((name) => new URL(`${room}/${name}`, source))
  )
  const phantom = "layers/store/query.ts: readonly _row?: A"
  expect(files.flatMap(absentOnly).filter((each) => each !== phantom)).toEqual([])
})

it("promise.node.ts is promise.ts, for Node", () => {
  expect(listed("promise.node")).toEqual(listed("promise"))
})

/** A compiler that writes declarations names by these what a module that it does not import has declared. */
it("every public module has a path of its own", () => {
  const { exports } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as {
    exports: Record<string, unknown>
  }
  const at = (path: string) => ({ types: `./dist/${path}.d.ts`, default: `./dist/${path}.js` })
  expect(exports["./*"]).toEqual(at("public/*"))
  for (const [entry, modules] of Object.entries(surface))
    for (const name of Object.keys(modules).filter((each) => each !== "")) {
      if (entry === "testing") expect(exports[`./testing/${name}`]).toEqual(at(`testing/${name}`))
      else expect(readdirSync(new URL("public/", source))).toContain(`${name}.ts`)
    }
})

it("every entry of the package is listed", () => {
  const { exports } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as {
    exports: Record<string, unknown>
  }
  // The one is data, the other a file that is run, and the rest are modules of those that are listed.
  const entries = Object.keys(exports).filter(
    (name) => name !== "./package.json" && name !== "./sqlite-worker" && !/\*|^\.\/testing\//.test(name)
  )
  expect(entries.map((name) => name.replace(/^\.\/?/, "") || "index").sort()).toEqual(
    Object.keys(surface).sort()
  )
})

it("what is listed is there when the program runs", async () => {
  for (const [entry, namespaces] of Object.entries(surface)) {
    const module = (await import(new URL(`${entry}.ts`, source).href)) as Record<
      string,
      Record<string, unknown>
    >
    for (const [name, names] of Object.entries(namespaces)) {
      const values = names.split(" ").filter((each) => !each.startsWith("~"))
      const there = Object.keys(name === "" ? module : (module[name] ?? {})).filter(
        (each) => name !== "" || !(each in namespaces)
      )
      expect(there.sort(), `${entry} ${name}`).toEqual(values.sort())
    }
  }
})
