/** What the parts of this folder share: the services, resolved once, and what is running in this process. */
import type * as Clock from "effect/Clock"
import type * as Effect from "effect/Effect"
import type { Registry } from "../../services/agents/Registry.js"
import type { Policy } from "../../services/auth/Policy.js"
import type { ClusterService } from "../../services/cluster/Cluster.js"
import type { Credentials } from "../../services/credentials/Credentials.js"
import type { Admission } from "../../services/jobs/Admission.js"
import type { EventLog } from "../../services/log/EventLog.js"
import type { IdGenerator } from "../../services/runtime/IdGenerator.js"
import type { MetricsService } from "../../services/runtime/Metrics.js"
import type { Options } from "../../services/runtime/RuntimeOptions.js"
import type { Secrets } from "../../services/runtime/Secrets.js"
import type { TurnService } from "../../services/runtime/Turn.js"
import type { Store } from "../../services/store/Store.js"
import type { Owners } from "./durable/Owners.js"
import type { Unsettled } from "./durable/Unsettled.js"
import type { Waits } from "./durable/Waits.js"
import type { HookCalls } from "./hooks/HookCalls.js"
import type { RunningJobs } from "./RunningJobs.js"
import type { Underway } from "./Underway.js"
import type { Asking } from "./wishes/Asking.js"

/** What every part of `jobs` works on. */
export interface JobParts {
  readonly log: EventLog["Type"]
  readonly store: Store["Type"]
  readonly registry: Registry["Type"]
  readonly policy: Policy["Type"]
  readonly admission: Admission["Type"]
  readonly ids: IdGenerator["Type"]
  readonly secrets: Secrets["Type"]
  readonly credentials: Credentials["Type"]
  readonly options: Options
  readonly clock: Clock.Clock
  /** Epoch ms by the wall clock. */
  readonly now: () => number
  readonly turn: TurnService
  /** See TurnShare.ts. */
  readonly share: Effect.Effect<void>
  readonly hooks: HookCalls
  /** What keeps metrics, where somebody does. */
  readonly metrics: MetricsService | undefined
  /** The cluster of which this runtime is a node, where it is one. */
  readonly cluster: ClusterService | undefined
  /** Asks other nodes for what only they can do. */
  readonly asking: Asking
  readonly running: RunningJobs
  readonly owners: Owners
  readonly unsettled: Unsettled
  readonly waits: Waits
  /** Jobs that have not ended, and wishes that are being stored. */
  readonly underway: Underway
}
