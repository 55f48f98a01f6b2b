/** Sessions over any transport: wires the table, the handshake, connections, records and the sweeping together. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Features from "../../protocol/Features.js"
import { Registry } from "../../services/agents/Registry.js"
import { Auth } from "../../services/auth/Auth.js"
import { Policy } from "../../services/auth/Policy.js"
import * as Cluster from "../../services/cluster/Cluster.js"
import { Credentials } from "../../services/credentials/Credentials.js"
import { Jobs } from "../../services/jobs/Jobs.js"
import { EventLog } from "../../services/log/EventLog.js"
import { IdGenerator } from "../../services/runtime/IdGenerator.js"
import * as Metrics from "../../services/runtime/Metrics.js"
import { monotonic } from "../../services/runtime/monotonic.js"
import { RuntimeOptions } from "../../services/runtime/RuntimeOptions.js"
import { Secrets } from "../../services/runtime/Secrets.js"
import { Turn } from "../../services/runtime/Turn.js"
import { TurnShare } from "../../services/runtime/TurnShare.js"
import { Sessions } from "../../services/session/Sessions.js"
import { Store } from "../../services/store/Store.js"
import { closeCode } from "../../services/transport/Transport.js"
import * as Connections from "./Connection.js"
import * as Dispatch from "./Dispatch.js"
import * as Expiry from "./Expiry.js"
import { FailedLogins, tooManyFailed } from "./FailedLogins.js"
import * as Handshake from "./Handshake.js"
import * as HelloRoom from "./HelloRoom.js"
import * as Identifying from "./identifying.js"
import { Keeper } from "./Keeper.js"
import * as Listing from "./listing.js"
import * as Measuring from "./measuring.js"
import * as Nodes from "./nodes.js"
import * as Records from "./Records.js"
import * as Resume from "./Resume.js"
import { type SessionEntry, SessionTable } from "./SessionTable.js"
import * as Shutdown from "./Shutdown.js"
import * as Sweeper from "./Sweeper.js"
import * as Serving from "./serving.js"
import { surviving } from "./surviving.js"
import * as Taking from "./Taking.js"

/** Adds the sessions that the store has, detached until the window after their last message has passed. */
const restoreAll = (services: Resume.ResumeServices, resume: Resume.Resume) =>
  Effect.gen(function* () {
    const { cluster, store, options, now, elapsed } = services
    const aliveAt = yield* store.aliveAt
    const at = now()
    const ours = (yield* store.sessions).filter((record) => Cluster.isOurs(cluster, record))
    const found = ours.map((record) => surviving(record, { aliveAt, at, resumeWindow: options.resumeWindow }))
    found.sort((a, b) => a.left - b.left)
    for (const { record, left } of found) yield* resume.restore(record, elapsed() + left)
  })

/** Makes the sessions of a runtime over the services in context. */
export const make = Effect.gen(function* () {
  const log = yield* EventLog
  const jobs = yield* Jobs
  const ids = yield* IdGenerator
  const store = yield* Store
  const options = yield* RuntimeOptions
  const cluster = yield* Cluster.here
  const clock = yield* Effect.clock
  const turn = yield* Turn
  const metrics = yield* Metrics.here
  const share = yield* TurnShare
  const credentials = yield* Credentials
  const secrets = yield* Secrets
  const now = () => clock.unsafeCurrentTimeMillis()
  const elapsed = monotonic(clock)

  const table = new SessionTable()
  const dropping = yield* FiberSet.make<void>()
  const inBackground = yield* FiberSet.runtime(dropping)<never>()
  const shared: Resume.ResumeServices = {
    table,
    log,
    store,
    jobs,
    ids,
    secrets,
    cluster,
    options,
    now,
    elapsed,
    share,
    background: (effect) => {
      inBackground(effect)
    }
  }
  const resume = Resume.make(shared)
  yield* restoreAll(shared, resume)
  const records = Records.make({
    table,
    log,
    now,
    resumeWindow: options.resumeWindow,
    outlived: store.kind === "durable",
    letGo: (entry) => Resume.letGoOf(shared, entry)()
  })
  records.ring()
  yield* Taking.watch(shared, records)
  const connected = new Shutdown.Connected()
  const ending = Shutdown.make({ jobs, options, table, records, connected })
  const auth = yield* Auth
  const policy = yield* Policy
  const greet = Handshake.make({
    auth,
    registry: yield* Registry,
    policy,
    options,
    offered: [...Features.all, ...Features.vendor].filter(
      (feature) => feature !== "provisioned_credentials" || credentials.enabled
    )
  })
  const dispatch = Dispatch.make({
    jobs,
    log,
    cancelOnBye: options.cancelOnBye,
    maxFrameBytes: options.maxOutboundFrameBytes,
    now,
    share,
    acknowledged: ({ sessionId }) => {
      const entry = table.get(sessionId)
      if (entry !== undefined) table.touch(entry)
    }
  })
  if (metrics !== undefined) yield* metrics.watch(Measuring.gauges(table, options))
  const keeper = new Keeper(elapsed, share)
  yield* Effect.forkScoped(keeper.run)
  const connections = Connections.make({
    log,
    jobs,
    ids,
    options,
    interval: Duration.toMillis(options.heartbeatInterval),
    clock,
    elapsed,
    turn,
    share,
    dispatch,
    expiry: Expiry.make({ jobs, options, now, elapsed }),
    keeper,
    isMeasured: metrics !== undefined,
    run: yield* FiberSet.runtime(dropping)<never>(),
    confirm: resume.confirm,
    noMoreRequests: Effect.asVoid(Effect.forkDaemon(ending.run))
  })

  const failedLogins = new FailedLogins(options, elapsed)
  const room = yield* HelloRoom.make({
    options,
    elapsed,
    greet: (connection, frame) =>
      failedLogins.crowded(connection.client) ? Effect.fail(tooManyFailed) : greet(connection, frame),
    share,
    stopping: ending.begun,
    refuse: (connection, refusal) => Serving.refuse(shared, connection, refusal)
  })

  yield* Effect.forkScoped(records.run)
  yield* Effect.forkScoped(
    Sweeper.run({
      table,
      elapsed,
      turn,
      resumeWindow: options.resumeWindow,
      committed: log.commit([])
    })
  )

  yield* Effect.addFinalizer(() => ending.run)
  // Nothing can be answered any more, and clients are to know.
  yield* Effect.forkScoped(Effect.catchAll(log.stopped, () => ending.run))

  /** Ends a session for good, at once or with its transport. */
  const forget = (entry: SessionEntry): Effect.Effect<void> =>
    Effect.flatMap(table.settled(entry), () => {
      entry.isLast = true
      const { state } = entry
      if (state._tag === "Detached") return table.drop(entry, state)
      return entry.attachment?.close(closeCode.policy, "the session was deleted") ?? Effect.void
    })

  return Sessions.of({
    forget: (principal) =>
      Effect.suspend(() => {
        const all = table.of([principal])
        return Effect.as(Effect.forEach(all, forget, { discard: true }), all.length)
      }),
    serve: Serving.make({
      resuming: shared,
      resume,
      records,
      room,
      connections,
      failedLogins,
      connected,
      halted: ending.halted,
      clock,
      isMeasured: metrics !== undefined
    }),
    isStopping: Effect.sync(ending.begun),
    authenticate: Identifying.make({
      auth,
      options,
      failedLogins,
      stopping: ending.begun,
      halted: ending.halted
    }),
    list: Listing.make(table, policy),
    nodes: yield* Nodes.make({ cluster, store, policy }),
    shutdown: ending.run
  })
})

/** Provides `Sessions` over the services in context. Its end ends every session. */
export const layer = () => Layer.scoped(Sessions, make)

export * from "../../services/session/Sessions.js"
