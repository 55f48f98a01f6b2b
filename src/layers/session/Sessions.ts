/** Sessions over any transport: wires the table, the handshake, connections, records and the sweeping together. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Features from "../../protocol/Features.js"
import { Registry } from "../../services/agents/Registry.js"
import { Auth } from "../../services/auth/Auth.js"
import { endingInTime } from "../../services/auth/ended.js"
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
import { mapSessions } from "../../services/store/paged.js"
import { Store } from "../../services/store/Store.js"
import * as Agents from "./agents.js"
import * as Connections from "./Connection.js"
import * as Dispatch from "./Dispatch.js"
import * as Expiry from "./Expiry.js"
import * as Forgetting from "./forgetting.js"
import * as Handshake from "./Handshake.js"
import * as HelloRoom from "./HelloRoom.js"
import * as Identifying from "./identifying.js"
import { Keeper } from "./Keeper.js"
import * as Logins from "./Logins.js"
import * as Listing from "./listing.js"
import * as Measuring from "./measuring.js"
import * as Nodes from "./nodes.js"
import * as Records from "./Records.js"
import * as Resume from "./Resume.js"
import { SessionTable } from "./SessionTable.js"
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
    const { resumeWindow } = options
    // Of one that is alone all are.
    const ours = yield* mapSessions(store, { node: cluster?.node }, (record) =>
      surviving(record, { aliveAt, at, resumeWindow })
    )
    const found = [...ours].sort((a, b) => a.left - b.left)
    for (const { record, left } of found) yield* resume.restore(record, elapsed() + left)
  })

/** What all parts of the sessions work with. */
const makeShared = Effect.gen(function* () {
  const clock = yield* Effect.clock
  // What goes on when its connection has ended is waited for at the end of the runtime.
  const run = yield* FiberSet.runtime(yield* FiberSet.make<void>())<never>()
  const shared: Resume.ResumeServices = {
    table: new SessionTable(),
    log: yield* EventLog,
    store: yield* Store,
    jobs: yield* Jobs,
    ids: yield* IdGenerator,
    secrets: yield* Secrets,
    cluster: yield* Cluster.here,
    takes: new Taking.Takes(),
    options: yield* RuntimeOptions,
    now: () => clock.unsafeCurrentTimeMillis(),
    elapsed: monotonic(clock),
    share: yield* TurnShare,
    background: (effect) => {
      run(effect)
    }
  }
  return { clock, run, shared, turn: yield* Turn, metrics: yield* Metrics.here }
})
type Shared = Effect.Effect.Success<typeof makeShared>

/** The sessions that there are, those of earlier processes too, and what is stored of them. */
const makeRecords = ({ shared }: Shared, resume: Resume.Resume) =>
  Effect.gen(function* () {
    yield* restoreAll(shared, resume)
    const { log, now, options, store, table } = shared
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
    return records
  })

/** Who says hello, and how: what is offered to them, and how many at once are listened to. */
const makeRoom = ({ shared }: Shared, { begun }: Shutdown.Shutdown, logins: Logins.Logins) =>
  Effect.gen(function* () {
    const { elapsed, options, share } = shared
    const credentials = yield* Credentials
    const greet = Handshake.make({
      logins,
      registry: yield* Registry,
      policy: yield* Policy,
      options,
      offered: [...Features.all, ...Features.vendor].filter(
        (feature) => feature !== "provisioned_credentials" || credentials.enabled
      )
    })
    return yield* HelloRoom.make({
      options,
      elapsed,
      greet,
      share,
      stopping: begun,
      refuse: (connection, refusal) => Serving.refuse(shared, connection, refusal)
    })
  })

/** What serves the connections of sessions. */
const makeConnections = (
  { clock, metrics, run, shared, turn }: Shared,
  resume: Resume.Resume,
  ending: Shutdown.Shutdown
) =>
  Effect.gen(function* () {
    const { elapsed, ids, jobs, log, now, options, share, table } = shared
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
    const keeper = new Keeper(elapsed, share)
    yield* Effect.forkScoped(keeper.run)
    return Connections.make({
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
      run,
      confirm: resume.confirm,
      noMoreRequests: Effect.asVoid(Effect.forkDaemon(ending.run()))
    })
  })

/** Makes the sessions of a runtime over the services in context. */
export const make = Effect.gen(function* () {
  const made = yield* makeShared
  const { clock, metrics, shared, turn } = made
  const { cluster, elapsed, jobs, log, options, store, table } = shared
  const isMeasured = metrics !== undefined

  const resume = Resume.make(shared)
  const records = yield* makeRecords(made, resume)
  const connected = new Shutdown.Connected()
  const ending = Shutdown.make({ jobs, options, table, records, connected })
  if (isMeasured) yield* metrics.watch(Measuring.gauges(table, options))
  const connections = yield* makeConnections(made, resume, ending)
  const logins = Logins.make({ auth: endingInTime(yield* Auth), options, elapsed, secrets: shared.secrets })
  const room = yield* makeRoom(made, ending, logins)

  yield* Effect.forkScoped(records.run)
  const { resumeWindow } = options
  yield* Effect.forkScoped(Sweeper.run({ table, elapsed, turn, resumeWindow, committed: log.commit([]) }))
  yield* Effect.addFinalizer(ending.run)
  // Nothing can be answered any more, and clients are to know.
  yield* Effect.forkScoped(Effect.catchAll(log.stopped, (error) => ending.run(Exit.fail(error))))

  const { begun: stopping, halted } = ending
  const policy = yield* Policy
  return Sessions.of({
    agents: Agents.make({ registry: yield* Registry, policy }),
    forget: Forgetting.make(shared),
    serve: Serving.make({
      resuming: shared,
      resume,
      records,
      room,
      connections,
      connected,
      halted,
      clock,
      isMeasured
    }),
    isStopping: Effect.sync(stopping),
    authenticate: Identifying.make({
      logins,
      options,
      stopping,
      isMeasured,
      halted
    }),
    list: Listing.make(table, policy),
    nodes: yield* Nodes.make({ cluster, store, policy }),
    shutdown: ending.run()
  })
})

/** Provides `Sessions` over the services in context. Its end ends every session. */
export const layer = () => Layer.scoped(Sessions, make)

export * from "../../services/session/Sessions.js"
