// A runtime that provisions credentials from an upstream made of files, so that what is alive there outlives the
// process: DIRECTORY/live/ID holds the value of each live credential, DIRECTORY/calls.jsonl every call, and
// DIRECTORY/behaviour.json says how upstream behaves from now on.
//
//   node credential-server.mjs DIRECTORY sql|memory [RUNTIME OPTIONS AS JSON]
//
// It is run as one file, which starts in a third of the processor time: see CredentialServer.ts.

import { randomBytes } from "node:crypto"
import * as fs from "node:fs"
import { join } from "node:path"
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Redacted from "effect/Redacted"
import * as Registry from "../../../dist/layers/agents/Registry.js"
import * as Auth from "../../../dist/layers/auth/Auth.js"
import * as CredentialStoreMemory from "../../../dist/layers/credentials/CredentialStoreMemory.js"
import * as CredentialStoreSql from "../../../dist/layers/credentials/CredentialStoreSql.js"
import * as Credentials from "../../../dist/layers/credentials/Credentials.js"
import * as Runtime from "../../../dist/layers/runtime/Runtime.js"
import * as RuntimeSqlite from "../../../dist/layers/runtime/RuntimeSqlite.js"
import * as Secrets from "../../../dist/layers/runtime/Secrets.js"
import * as TransportWebSocket from "../../../dist/layers/transport/TransportWebSocket.js"
import { agents as conformance } from "../../../dist/programs/agents/conformance.js"
import * as Agent from "../../../dist/services/agents/Agent.js"
import {
  CredentialProvisioner,
  ProvisionError
} from "../../../dist/services/credentials/CredentialProvisioner.js"
import { Job } from "../../../dist/services/jobs/Job.js"
import { TransportServer } from "../../../dist/services/transport/Transport.js"
import { agents as scripted } from "./script-agent.mjs"

const [directory, storage, limits = "{}"] = process.argv.slice(2)
// Of the build, wherever this file lies.
const worker = new URL(process.env.ARCP_SQLITE_WORKER)
const live = join(directory, "live")
fs.mkdirSync(live, { recursive: true })

/** {mintMs?, answerMs?, failMint?: profile, spendCap?, failRevokes?: times, for each id} */
const behaviour = () => {
  try {
    return JSON.parse(fs.readFileSync(join(directory, "behaviour.json"), "utf8"))
  } catch {
    return {}
  }
}
const called = (call) => fs.appendFileSync(join(directory, "calls.jsonl"), `${JSON.stringify(call)}\n`)

const mint = ({ id, job, profile }) =>
  Effect.gen(function* () {
    const { answerMs = 0, failMint, mintMs = 0, spendCap } = behaviour()
    called({ call: "mint", id, profile, jobId: job.jobId })
    yield* Effect.sleep(mintMs)
    if (spendCap)
      return yield* new ProvisionError({
        message: "upstream's spend cap is reached",
        retryable: false,
        nothingMade: true,
        budgetExhausted: true
      })
    if (failMint === profile)
      return yield* new ProvisionError({ message: "upstream is out of order", retryable: false })
    const value = `sk-${randomBytes(24).toString("hex")}`
    fs.writeFileSync(join(live, id), value)
    yield* Effect.sleep(answerMs)
    return {
      value: Redacted.make(value),
      endpoint: "https://llm.example/v1",
      constraints: { "model.use": job.lease["model.use"] ?? [] }
    }
  })

const refusals = new Map()
const provisioner = Layer.succeed(CredentialProvisioner, {
  name: "the upstream of files",
  profiles: (job) => [
    ...(job.lease["model.use"]?.length > 0 ? ["openai"] : []),
    ...(job.lease["x-vendor.test.second"]?.length > 0 ? ["second"] : [])
  ],
  mint,
  rotate: mint,
  revoke: ({ id }) =>
    Effect.gen(function* () {
      called({ call: "revoke", id })
      const refused = refusals.get(id) ?? 0
      refusals.set(id, refused + 1)
      if (refused < (behaviour().failRevokes ?? 0))
        return yield* new ProvisionError({ message: "upstream is out of order", retryable: true })
      fs.rmSync(join(live, id), { force: true })
    })
})

/** {ms}: rotates its first credential, waits, and tells ids and whether it got another value. */
const rotate = Agent.handle(Agent.make("rotate", { version: "1.0.0" }), ({ ms }) =>
  Effect.gen(function* () {
    const job = yield* Job
    const [before] = yield* job.credentials
    const after = yield* job.rotateCredential(before.id)
    yield* job.status("rotated")
    yield* Effect.sleep(ms)
    return {
      same: before.id === after.id,
      changed: Redacted.value(before.value) !== Redacted.value(after.value)
    }
  })
)

/** Puts what it holds into everything it emits, as a careless agent's logging does. */
const careless = Agent.handle(Agent.make("careless", { version: "1.0.0" }), () =>
  Effect.gen(function* () {
    const job = yield* Job
    const held = yield* job.credentials
    yield* Effect.logInfo("holding", held)
    yield* job.log("info", `holding ${held.map(String).join()}`, { held: JSON.parse(JSON.stringify(held)) })
    return JSON.parse(JSON.stringify(held))
  })
)

const filename = join(directory, "arcp.db")
const store =
  storage === "sql"
    ? CredentialStoreSql.layerSqlite({ filename: CredentialStoreSql.beside(filename), worker })
    : CredentialStoreMemory.layer()
const options = {
  callTimeoutMs: 5_000,
  mintRetryMs: 20,
  settleMs: 200,
  revokeRetryMs: 20,
  maxRevokeRetryMs: 100
}
const credentials = Credentials.layer(options).pipe(Layer.provide(provisioner), Layer.provide(store))

const serving = Effect.gen(function* () {
  const { address } = yield* TransportServer
  yield* Effect.sync(() => console.log(`listening ${address}`))
  yield* Layer.build(Runtime.serve())
  return yield* Effect.never
}).pipe(
  Effect.scoped,
  Effect.provide(
    TransportWebSocket.layer({ port: 0 }).pipe(
      Layer.provideMerge(
        RuntimeSqlite.layer(
          { filename, worker },
          {
            options: { shutdownGrace: "500 millis", cancelGrace: "500 millis", ...JSON.parse(limits) },
            credentials
          }
        )
      ),
      Layer.provide(Registry.layer([...conformance, ...scripted, rotate, careless])),
      Layer.provide(Auth.layerStatic({ "tok-a": "alice", "tok-b": "bob" })),
      Layer.provide(NodeContext.layer),
      Layer.provide(Secrets.layer)
    )
  ),
  Logger.withMinimumLogLevel(LogLevel.All),
  Effect.provide(Logger.replace(Logger.defaultLogger, Logger.withConsoleError(Logger.logfmtLogger)))
)

NodeRuntime.runMain(serving)
