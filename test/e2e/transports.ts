/**
 * What the suite speaks over, as data. `vitest.config.ts` runs the files of this folder once for each transport; a test
 * that a transport cannot carry is skipped there, and the run prints why.
 */

export type Transport = "websocket" | "stdio" | "memory"

export const transports: ReadonlyArray<Transport> = ["websocket", "stdio", "memory"]

/** Where a requirement holds, and why it does not elsewhere. */
export interface Scope {
  readonly on: ReadonlyArray<Transport>
  readonly why: string
}

/** "All transports behave identically above this line" (§1): what a requirement says that says nothing else. */
export const everywhere: Scope = { on: transports, why: "" }

/** More than one connection to one runtime: several sessions, or one that is resumed. */
export const connections: Scope = {
  on: ["websocket", "memory"],
  why: "it takes a second connection to the same runtime, and over stdio a runtime has one"
}

/** Told by the code that a transport is closed with. */
export const closeCodes: Scope = {
  on: ["websocket", "memory"],
  why: "stdio has no close codes"
}

/** What a lease allows, in tables of hundreds of cases. */
export const cases: Scope = {
  on: ["websocket", "memory"],
  why: "it is decided above the transport, and over stdio each of its many cases would take a process"
}

/** A process that is stopped, killed or started again on its database file. */
export const processes: Scope = {
  on: ["websocket"],
  why: "it is about the process of a runtime on a port"
}

/** A runtime that is started again on its database file. */
export const restarts: Scope = {
  on: ["websocket", "stdio"],
  why: "what is in memory is not started again"
}

/** Credentials that are minted by a gateway of the suite. */
export const gateway: Scope = {
  on: ["websocket"],
  why: "a gateway is started beside the runtime, which serves a port"
}

/** Sockets, ports and the requests that open them. */
export const sockets: Scope = {
  on: ["websocket"],
  why: "it is about sockets"
}

export const stdio: Scope = {
  on: ["stdio"],
  why: "it is about standard input and output"
}

/** The shipped program: its flags, its files and what it prints. */
export const programs: Scope = {
  on: ["websocket"],
  why: "it is about the program and its flags, whatever it speaks over"
}

/** Files that run over one transport only: file (without `.test.ts`) → where, and why. The others run over all. */
export const files: Readonly<Record<string, Scope>> = {
  SessionRecord: { on: ["websocket"], why: "it tests the suite's own checks, without a runtime" },
  budgets: cases,
  ceiling: cases,
  credentials: gateway,
  "credentials-revoked": gateway,
  delegation: cases,
  "delegation-ends": cases,
  "delegation-tree": cases,
  durable: processes,
  drop: { on: ["websocket"], why: "it cuts sockets at random moments" },
  fairness: { on: ["websocket"], why: "it measures how a process of its own answers on several sockets" },
  killed: processes,
  "lease-expiry": cases,
  "lease-targets": cases,
  leases: cases,
  list: connections,
  "many-drops": sockets,
  cluster: processes,
  postgres: processes,
  restart: processes,
  resume: connections,
  shutdown: processes,
  "slow-consumer": { on: ["websocket"], why: "it measures the memory of the process behind a socket" },
  stdio,
  "store-faults": processes,
  "sync-order": processes,
  windows: processes
}

/** What a transport can carry, for tests that ask for more than their requirements say. */
export interface Traits {
  /** Connections to one runtime. */
  readonly connections: number
  /** Frames that are not text. */
  readonly binary: boolean
}

export const traits: Readonly<Record<Transport, Traits>> = {
  websocket: { connections: Number.POSITIVE_INFINITY, binary: true },
  stdio: { connections: 1, binary: false },
  memory: { connections: Number.POSITIVE_INFINITY, binary: false }
}
