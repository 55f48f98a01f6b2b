/** An upstream that makes credentials, as tests want it to behave, and a process that can be killed at any step. */
import { expect } from "@effect/vitest"
import * as BigDecimal from "effect/BigDecimal"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/TestClock"
import * as Credentials from "../../../src/layers/credentials/Credentials.js"
import * as IdGenerator from "../../../src/layers/runtime/IdGenerator.js"
import {
  CredentialProvisioner,
  type CredentialProvisionerService,
  ProvisionError
} from "../../../src/services/credentials/CredentialProvisioner.js"
import {
  type CredentialRecord,
  CredentialStore,
  type CredentialStoreService
} from "../../../src/services/credentials/CredentialStore.js"
import { StoreError } from "../../../src/services/store/Store.js"

export const aJob = (
  jobId: string,
  fields: Partial<Credentials.CredentialJob> = {}
): Credentials.CredentialJob => ({
  jobId,
  principal: "alice",
  agent: "echo@1.0.0",
  lease: { "model.use": ["gpt-4o"], "cost.budget": ["USD:5.00"] },
  leaseConstraints: {},
  budget: new Map([["USD", BigDecimal.unsafeFromString("5.00")]]),
  ...fields
})

/** What upstream does with one request; the default is to do it and answer. */
export type Behaviour =
  | "ok"
  | "refuse"
  | "fail"
  | "fail after"
  | "hang"
  | "hang after"
  | "late"
  | "budget"
  | "defect"
  | "deaf"

export const lateMs = 45_000

export class Upstream {
  /** Alias → value of what is good at the moment. */
  readonly live = new Map<string, string>()
  /** Every value there ever was. */
  readonly values: Array<string> = []
  readonly calls: Array<string> = []
  /** Ids of what was to be replaced. */
  readonly replaced: Array<string> = []
  mints: Array<Behaviour> = []
  revokes: Array<Behaviour> = []
  /** What every revocation does when `revokes` is used up. */
  revoking: Behaviour = "ok"
  profiles: ReadonlyArray<string> = ["openai"]

  private act(behaviour: Behaviour, effect: () => void, secret: string): Effect.Effect<void, ProvisionError> {
    const fail = (retryable: boolean, fields: object = {}) =>
      Effect.fail(new ProvisionError({ message: `upstream said ${behaviour}`, retryable, ...fields }))
    switch (behaviour) {
      case "ok":
        return Effect.sync(effect)
      case "refuse":
        return fail(false, { nothingMade: true })
      case "budget":
        return fail(false, { nothingMade: true, budgetExhausted: true })
      case "fail":
        return fail(true)
      case "fail after":
        return Effect.zipRight(Effect.sync(effect), fail(true))
      case "hang":
        return Effect.never
      case "deaf":
        return Effect.uninterruptible(Effect.never)
      case "hang after":
        return Effect.zipRight(Effect.sync(effect), Effect.never)
      case "late":
        return Effect.zipRight(Effect.forkDaemon(Effect.delay(Effect.sync(effect), lateMs)), fail(true))
      case "defect":
        return Effect.die(new TypeError(`no ${secret} for you`))
    }
  }

  private make(id: string) {
    return Effect.suspend(() => {
      const value = `sk-value-${this.values.length}`
      this.values.push(value)
      return this.act(this.mints.shift() ?? "ok", () => this.live.set(id, value), value).pipe(
        Effect.as({ value: Redacted.make(value), endpoint: "https://models.example", reference: "ab12" })
      )
    })
  }

  readonly provisioner: CredentialProvisionerService = {
    name: "Upstream",
    profiles: () => this.profiles,
    mint: ({ id, profile, job }) =>
      Effect.suspend(() => {
        this.calls.push(`mint ${profile} ${job.jobId}`)
        return this.make(id)
      }),
    rotate: ({ id, previous }) =>
      Effect.suspend(() => {
        this.replaced.push(previous.id)
        this.calls.push(`rotate ${this.live.has(previous.id) ? "live" : "gone"}`)
        return this.make(id)
      }),
    revoke: ({ id }) =>
      Effect.suspend(() => {
        this.calls.push(this.live.has(id) ? "revoke" : "revoke unknown")
        return this.act(
          this.revokes.shift() ?? this.revoking,
          () => this.live.delete(id),
          this.live.get(id) ?? ""
        )
      })
  }
}

/** A durable store, of which a crash leaves `records`. */
export class Disk {
  readonly log: Array<string> = []
  failing: "insert" | "update" | undefined

  constructor(readonly records = new Map<string, CredentialRecord>()) {}

  private write(what: "insert" | "update", record: CredentialRecord) {
    return Effect.suspend(() => {
      if (this.failing === what)
        return Effect.fail(
          new StoreError({ message: "/secret/path: the disk is full", publicMessage: "the disk is full" })
        )
      this.log.push(`${what} ${record.state}`)
      this.records.set(record.id, { ...record })
      return Effect.void
    })
  }

  readonly store: CredentialStoreService = {
    kind: "durable",
    insert: (record) => this.write("insert", record),
    update: (record) => (this.records.has(record.id) ? this.write("update", record) : Effect.void),
    remove: (id) => Effect.sync(() => void this.records.delete(id)),
    list: Effect.sync(() => Array.from(this.records.values()))
  }

  get states(): ReadonlyArray<string> {
    return Array.from(this.records.values(), ({ state }) => state)
  }
}

/** `kill -9` when this many operations have begun: nothing happens after, and nothing is told. */
export const killedAt = (
  step: number,
  upstream: CredentialProvisionerService,
  store: CredentialStoreService
) => {
  let steps = 0
  const counts = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.suspend(() => {
      if (steps++ >= step) return Effect.never
      // Killed between what it did and the answer.
      return Effect.flatMap(effect, (answer) => (steps++ >= step ? Effect.never : Effect.succeed(answer)))
    })
  return {
    get dead() {
      return steps > step
    },
    provisioner: {
      ...upstream,
      mint: (request) => counts(upstream.mint(request)),
      rotate: (request) => counts(upstream.rotate(request)),
      revoke: (record) => counts(upstream.revoke(record))
    } satisfies CredentialProvisionerService,
    store: {
      kind: store.kind,
      insert: (record) => counts(store.insert(record)),
      update: (record) => counts(store.update(record)),
      remove: (id) => counts(store.remove(id)),
      list: store.list
    } satisfies CredentialStoreService
  }
}

/** The service in the scope of the test; it goes when the test does, without waiting for anything. */
export const start = (
  provisioner: CredentialProvisionerService,
  store: CredentialStoreService,
  options: Credentials.Input = {}
) =>
  Layer.build(
    Credentials.layer({ shutdownGrace: "0 millis", ...options }).pipe(
      Layer.provide(Layer.succeed(CredentialProvisioner, provisioner)),
      Layer.provide(Layer.succeed(CredentialStore, store)),
      Layer.provide(IdGenerator.layer())
    )
  ).pipe(
    Effect.map(
      (context) =>
        context.pipe((_) => _.unsafeMap.get(Credentials.Credentials.key)) as Credentials.Credentials["Type"]
    ),
    Effect.orDie
  )

/** Lets time pass until it is so: seconds at first, then in larger steps. */
export const eventually = (title: string, holds: () => boolean) =>
  Effect.gen(function* () {
    for (let i = 0; i < 120 && !holds(); i++) yield* TestClock.adjust(i < 10 ? "1 seconds" : "20 seconds")
    expect(holds(), title).toBe(true)
  })
