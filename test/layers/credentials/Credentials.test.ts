import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Inspectable from "effect/Inspectable"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import * as Tracer from "effect/Tracer"
import * as CredentialStoreMemory from "../../../src/layers/credentials/CredentialStoreMemory.js"
import * as Credentials from "../../../src/layers/credentials/Credentials.js"
import { BudgetExhausted, InternalError, InvalidRequest } from "../../../src/protocol/Errors.js"
import { idPattern } from "../../../src/protocol/Ids.js"
import type { CredentialRecord } from "../../../src/services/credentials/CredentialStore.js"
import { families } from "../../../src/services/runtime/Metrics.js"
import { measured } from "../../support/measured.js"
import { aRecord } from "./CredentialStore.suite.js"
import { aJob, Disk, eventually, killedAt, lateMs, start, Upstream } from "./credentials.js"

const make = (options?: Credentials.Input) =>
  Effect.gen(function* () {
    const upstream = new Upstream()
    const disk = new Disk()
    return { upstream, disk, credentials: yield* start(upstream.provisioner, disk.store, options) }
  })

const nothingLeft = (upstream: Upstream, disk: Disk) =>
  Effect.gen(function* () {
    yield* eventually("nothing is live and nothing is outstanding", () => {
      return upstream.live.size === 0 && disk.records.size === 0
    })
    // Nor does anything come back.
    yield* TestClock.adjust("10 minutes")
    expect(upstream.live.size).toBe(0)
    expect(disk.records.size).toBe(0)
  })

describe("enabled", () => {
  it.effect("not without a provisioner", () =>
    Effect.gen(function* () {
      const credentials = yield* Credentials.Credentials
      expect(credentials.enabled).toBe(false)
      expect(yield* credentials.mint(aJob("job_a"))).toEqual([])
      expect(credentials.held("job_a")).toEqual([])
      expect(yield* Effect.flip(credentials.rotate("job_a", "cred_a"))).toBeInstanceOf(InvalidRequest)
      yield* credentials.release("job_a")
      expect(yield* credentials.outstanding).toEqual([])
      expect(yield* Effect.flip(credentials.revoke("cred_a"))).toBeInstanceOf(InternalError)
    }).pipe(Effect.provide(Credentials.layerNone))
  )

  it.scoped("not with a store that forgets, unless a test says so", () =>
    Effect.gen(function* () {
      const upstream = new Upstream()
      const store = yield* CredentialStoreMemory.make
      const off = yield* start(upstream.provisioner, store)
      expect(off.enabled).toBe(false)
      expect(yield* off.mint(aJob("job_a"))).toEqual([])
      expect(upstream.calls).toEqual([])
      const on = yield* start(upstream.provisioner, store, { allowVolatile: true })
      expect(on.enabled).toBe(true)
      expect(yield* on.mint(aJob("job_a"))).toHaveLength(1)
    })
  )

  it.effect("options are checked", () =>
    Effect.gen(function* () {
      const exit = yield* Effect.exit(
        Effect.scoped(start(new Upstream().provisioner, new Disk().store, { mintAttempts: 0 }))
      )
      expect(Exit.isFailure(exit)).toBe(true)
    })
  )
})

describe("mint", () => {
  it.scoped("records before it asks and before it answers", () =>
    Effect.gen(function* () {
      const { upstream, disk, credentials } = yield* make()
      upstream.calls.push = (call) => disk.log.push(call)
      const minted = yield* credentials.mint(aJob("job_a"))
      expect(disk.log).toEqual(["insert minting", "mint openai job_a", "update active"])
      const [credential] = minted
      if (credential === undefined) throw new Error("none was minted")
      expect(credential.id).toMatch(/^cred_/)
      expect(credential.id).toMatch(idPattern)
      expect(Credentials.toWire(credential)).toEqual({
        id: credential.id,
        scheme: "bearer",
        value: "sk-value-0",
        endpoint: "https://models.example",
        profile: "openai"
      })
      expect(credentials.held("job_a")).toEqual(minted)
      expect(credentials.held("job_b")).toEqual([])
      expect(yield* credentials.outstanding).toEqual([])
      expect(Array.from(disk.records.values())).toEqual([
        {
          id: credential.id,
          credentialId: credential.id,
          jobId: "job_a",
          principal: "alice",
          state: "active",
          endpoint: "https://models.example",
          reference: "ab12",
          createdAt: 0,
          updatedAt: 0,
          attempts: 0
        }
      ])
    })
  )

  it.scoped("gives a job what it needs and nothing of another's", () =>
    Effect.gen(function* () {
      const { upstream, disk, credentials } = yield* make()
      upstream.profiles = []
      expect(yield* credentials.mint(aJob("job_a"))).toEqual([])
      expect(disk.log).toEqual([])
      upstream.profiles = ["openai", "search"]
      const b = yield* credentials.mint(aJob("job_b"))
      const c = yield* credentials.mint(aJob("job_c"))
      expect(b.map(({ profile }) => profile)).toEqual(["openai", "search"])
      expect(new Set([...b, ...c].map(({ value }) => Redacted.value(value))).size).toBe(4)
    })
  )

  it.scoped("all or nothing", () =>
    Effect.gen(function* () {
      const { upstream, disk, credentials } = yield* make()
      upstream.profiles = ["openai", "search"]
      upstream.mints = ["ok", "refuse"]
      const error = yield* Effect.flip(credentials.mint(aJob("job_a")))
      expect(error).toBeInstanceOf(InternalError)
      expect(error.message).toBe("the job's credentials could not be provisioned: upstream said refuse")
      expect(upstream.values).toHaveLength(2)
      expect(credentials.held("job_a")).toEqual([])
      yield* nothingLeft(upstream, disk)
    })
  )

  it.scoped("a refusal is final, and leaves nothing to revoke", () =>
    Effect.gen(function* () {
      const { upstream, disk, credentials } = yield* make()
      upstream.mints = ["refuse"]
      yield* Effect.flip(credentials.mint(aJob("job_a")))
      expect(upstream.calls).toEqual(["mint openai job_a"])
      expect(disk.records.size).toBe(0)
    })
  )

  it.scoped("a spend cap is BUDGET_EXHAUSTED, and not tried again", () =>
    Effect.gen(function* () {
      const { upstream, disk, credentials } = yield* make()
      upstream.mints = ["budget"]
      expect(yield* Effect.flip(credentials.mint(aJob("job_a")))).toBeInstanceOf(BudgetExhausted)
      expect(upstream.calls).toEqual(["mint openai job_a"])
      expect(disk.records.size).toBe(0)
    })
  )

  for (const behaviour of ["fail", "fail after", "late", "defect"] as const)
    it.scoped(
      `after "${behaviour}" it tries again under another id, and revokes the first until it has settled`,
      () =>
        Effect.gen(function* () {
          const { upstream, disk, credentials } = yield* make()
          upstream.mints = [behaviour]
          const minting = yield* Effect.fork(credentials.mint(aJob("job_a")))
          yield* eventually("minted", () => credentials.held("job_a").length === 1)
          const [credential] = yield* Fiber.join(minting)
          expect(Array.from(upstream.live.keys()).filter((id) => id !== credential?.id)).toEqual([])
          yield* TestClock.adjust(lateMs * 2)
          expect(Array.from(upstream.live.keys())).toEqual([credential?.id])
          yield* eventually("the first is settled", () => disk.records.size === 1)
          yield* credentials.release("job_a")
          yield* nothingLeft(upstream, disk)
        })
    )

  it.scoped("gives up after the attempts, and leaves nothing behind", () =>
    Effect.gen(function* () {
      const { upstream, disk, credentials } = yield* make({ mintAttempts: 3 })
      upstream.mints = ["fail", "fail after", "late", "ok"]
      const minting = yield* Effect.fork(Effect.flip(credentials.mint(aJob("job_a"))))
      yield* TestClock.adjust("5 seconds")
      expect(yield* Fiber.join(minting)).toBeInstanceOf(InternalError)
      expect(upstream.mints).toEqual(["ok"])
      yield* TestClock.adjust(lateMs)
      yield* nothingLeft(upstream, disk)
    })
  )

  it.scoped.each([
    { ms: 3_000, isMade: true },
    { ms: 11_000, isMade: false }
  ])("whatever `settle` is, it is made when recording it takes $ms ms: $isMade", ({ isMade, ms }) =>
    Effect.gen(function* () {
      const [upstream, disk] = [new Upstream(), new Disk()]
      const slow = {
        ...disk.store,
        insert: (record: CredentialRecord) => Effect.delay(disk.store.insert(record), ms)
      }
      const credentials = yield* start(upstream.provisioner, slow, { settle: 0, mintAttempts: 1 })
      const minting = yield* Effect.fork(Effect.exit(credentials.mint(aJob("job_a"))))
      yield* TestClock.adjust(ms)
      expect(Exit.isSuccess(yield* Fiber.join(minting))).toBe(isMade)
      expect(upstream.calls).toEqual(isMade ? ["mint openai job_a"] : [])
    })
  )

  for (const behaviour of ["hang", "hang after", "deaf"] as const)
    it.scoped(`does not wait for ever: "${behaviour}"`, () =>
      Effect.gen(function* () {
        const { upstream, disk, credentials } = yield* make({ mintAttempts: 1, callTimeout: 4_000 })
        upstream.mints = [behaviour]
        const minting = yield* Effect.fork(Effect.flip(credentials.mint(aJob("job_a"))))
        yield* TestClock.adjust("4 seconds")
        expect((yield* Fiber.join(minting)).message).toMatch(/Upstream did not answer within 4000 ms/)
        yield* nothingLeft(upstream, disk)
      })
    )

  for (const behaviour of ["hang", "hang after"] as const)
    it.scoped(`interrupted in the middle: "${behaviour}"`, () =>
      Effect.gen(function* () {
        const { upstream, disk, credentials } = yield* make()
        upstream.profiles = ["openai", "search"]
        upstream.mints = ["ok", behaviour]
        const minting = yield* Effect.fork(credentials.mint(aJob("job_a")))
        yield* eventually("it hangs", () => upstream.values.length === 2)
        yield* Fiber.interrupt(minting)
        expect(credentials.held("job_a")).toEqual([])
        yield* nothingLeft(upstream, disk)
      })
    )

  it.scoped("released in the middle", () =>
    Effect.gen(function* () {
      const { upstream, disk, credentials } = yield* make({ mintRetry: 30_000 })
      upstream.profiles = ["openai", "search"]
      upstream.mints = ["ok", "fail"]
      const minting = yield* Effect.fork(Effect.flip(credentials.mint(aJob("job_a"))))
      yield* eventually("it waits to try again", () => upstream.mints.length === 0)
      yield* credentials.release("job_a")
      yield* TestClock.adjust("1 minutes")
      expect((yield* Fiber.join(minting)).message).toMatch(/the job ended/)
      yield* nothingLeft(upstream, disk)
    })
  )

  it.scoped("asks for nothing that it cannot record", () =>
    Effect.gen(function* () {
      const { upstream, disk, credentials } = yield* make()
      disk.failing = "insert"
      const error = yield* Effect.flip(credentials.mint(aJob("job_a")))
      expect(error.message).toBe("the credential store failed: the disk is full")
      expect(upstream.calls).toEqual([])
    })
  )

  it.scoped(
    "a job that is given up while its record waits for the store ends at once, and leaves nothing",
    () =>
      Effect.gen(function* () {
        const upstream = new Upstream()
        const disk = new Disk()
        const waiting = yield* Deferred.make<void>()
        const credentials = yield* start(upstream.provisioner, {
          ...disk.store,
          insert: (record) =>
            disk.store
              .insert(record)
              .pipe(Effect.zipRight(Deferred.succeed(waiting, undefined)), Effect.zipRight(Effect.never))
        })
        const minting = yield* Effect.fork(credentials.mint(aJob("job_a")))
        yield* Deferred.await(waiting)
        yield* Fiber.interrupt(minting)
        yield* nothingLeft(upstream, disk)
        expect(new Set(upstream.calls)).toEqual(new Set(["revoke unknown"]))
      })
  )

  it.scoped("returns nothing that it could not record as minted", () =>
    Effect.gen(function* () {
      const { upstream, disk, credentials } = yield* make()
      disk.failing = "update"
      expect(yield* Effect.flip(credentials.mint(aJob("job_a")))).toBeInstanceOf(InternalError)
      yield* nothingLeft(upstream, disk)
    })
  )
})

describe("what is not supposed to happen", () => {
  for (const what of ["insert", "update"] as const)
    it.scoped(`a store that dies at its ${what} leaves nothing behind`, () =>
      Effect.gen(function* () {
        const upstream = new Upstream()
        const disk = new Disk()
        const broken = { dies: true }
        const credentials = yield* start(upstream.provisioner, {
          ...disk.store,
          [what]: (record: CredentialRecord) =>
            broken.dies ? Effect.dieMessage("no such table") : disk.store[what](record)
        })
        expect(Exit.isFailure(yield* Effect.exit(credentials.mint(aJob("job_a"))))).toBe(true)
        broken.dies = false
        yield* nothingLeft(upstream, disk)
        expect(yield* credentials.outstanding).toEqual([])
      })
    )

  it.scoped("a provisioner that throws where it should give an effect is asked again", () =>
    Effect.gen(function* () {
      const upstream = new Upstream()
      const disk = new Disk()
      let throws = 2
      const credentials = yield* start(
        {
          ...upstream.provisioner,
          revoke: (record) => {
            if (throws-- > 0) throw new TypeError("sk-secret is not a function")
            return upstream.provisioner.revoke(record)
          }
        },
        disk.store
      )
      yield* credentials.mint(aJob("job_a"))
      yield* credentials.release("job_a")
      yield* nothingLeft(upstream, disk)
    })
  )

  it.scoped("a provisioner that interrupts itself has failed", () =>
    Effect.gen(function* () {
      const upstream = new Upstream()
      const disk = new Disk()
      const credentials = yield* start(
        { ...upstream.provisioner, mint: () => Effect.interrupt },
        disk.store,
        { mintAttempts: 1 }
      )
      const minting = yield* Effect.fork(Effect.flip(credentials.mint(aJob("job_a"))))
      yield* TestClock.adjust("1 minutes")
      expect(yield* Fiber.join(minting)).toBeInstanceOf(InternalError)
      yield* nothingLeft(upstream, disk)
    })
  )

  it.scoped("upstream is asked without the services of the agent that rotates", () =>
    Effect.gen(function* () {
      const upstream = new Upstream()
      const disk = new Disk()
      const seen: Array<boolean> = []
      const noting = <A, E>(effect: Effect.Effect<A, E>) =>
        Effect.flatMap(Effect.serviceOption(FetchHttpClient.Fetch), (fetch) => {
          seen.push(Option.isSome(fetch))
          return effect
        })
      const { mint, rotate, revoke } = upstream.provisioner
      const credentials = yield* start(
        {
          ...upstream.provisioner,
          mint: (request) => noting(mint(request)),
          rotate: (request) => noting(rotate(request)),
          revoke: (record) => noting(revoke(record))
        },
        disk.store
      )
      yield* Effect.gen(function* () {
        const [credential] = yield* credentials.mint(aJob("job_a"))
        yield* credentials.rotate("job_a", credential?.id ?? "")
        yield* credentials.release("job_a")
      }).pipe(Effect.provideService(FetchHttpClient.Fetch, fetch))
      yield* nothingLeft(upstream, disk)
      expect(seen).toEqual([false, false, false, false])
    })
  )
})

describe("release", () => {
  it.scoped("revokes, at once for the job and in the background upstream; once", () =>
    Effect.gen(function* () {
      const { upstream, disk, credentials } = yield* make()
      yield* credentials.mint(aJob("job_a"))
      yield* credentials.mint(aJob("job_b"))
      yield* Effect.all([
        credentials.release("job_a"),
        credentials.release("job_a"),
        credentials.release("job_x")
      ])
      expect(credentials.held("job_a")).toEqual([])
      yield* eventually("revoked", () => upstream.live.size === 1)
      expect(credentials.held("job_b")).toHaveLength(1)
      expect(upstream.calls.filter((call) => call === "revoke")).toHaveLength(1)
      yield* credentials.release("job_b")
      yield* nothingLeft(upstream, disk)
    })
  )

  it.scoped("outlives whoever released", () =>
    Effect.gen(function* () {
      const { upstream, disk, credentials } = yield* make()
      upstream.revokes = ["fail", "hang", "defect", "deaf", "fail after"]
      yield* credentials.mint(aJob("job_a"))
      yield* Effect.scoped(Effect.forkScoped(credentials.release("job_a")).pipe(Effect.flatMap(Fiber.join)))
      yield* nothingLeft(upstream, disk)
      expect(upstream.calls.filter((call) => call.startsWith("revoke"))).toHaveLength(6)
    })
  )

  it.effect("a shutdown waits for revocations under way", () =>
    Effect.gen(function* () {
      const upstream = new Upstream()
      const disk = new Disk()
      const scope = yield* Scope.make()
      const credentials = yield* Scope.extend(
        start(upstream.provisioner, disk.store, { shutdownGrace: "5000 millis" }),
        scope
      )
      yield* credentials.mint(aJob("job_a"))
      yield* credentials.release("job_a")
      yield* Scope.close(scope, Exit.void)
      expect(upstream.live.size).toBe(0)
      expect(disk.records.size).toBe(0)
    })
  )

  it.scoped("gives up in the end: surfaced, kept, and tried again by an operator", () =>
    Effect.gen(function* () {
      const failures = measured(families.credentialsFailed)
      const { upstream, disk, credentials } = yield* make({ revokeAttempts: 4 })
      upstream.revoking = "fail"
      const [credential] = yield* credentials.mint(aJob("job_a"))
      const id = credential?.id ?? ""
      yield* credentials.release("job_a")
      yield* eventually("given up", () => disk.states[0] === "failed")
      expect(upstream.calls.filter((call) => call === "revoke")).toHaveLength(4)
      expect(yield* credentials.outstanding).toMatchObject([
        { id, jobId: "job_a", state: "failed", attempts: 4, lastError: "upstream said fail" }
      ])
      expect(measured(families.credentialsFailed)).toBe(failures + 1)
      expect(measured(families.credentialsOutstanding)).toBe(1)

      const error = yield* Effect.flip(credentials.revoke(id))
      expect(error.message).toBe(`${id} could not be revoked: upstream said fail`)
      expect(yield* credentials.outstanding).toMatchObject([{ state: "failed", attempts: 5 }])
      upstream.revoking = "ok"
      yield* credentials.revoke(id)
      expect(upstream.live.size).toBe(0)
      expect(yield* credentials.outstanding).toEqual([])
      expect(measured(families.credentialsOutstanding)).toBe(0)
      expect((yield* Effect.flip(credentials.revoke(id))).message).toMatch(/is not outstanding/)
    })
  )

  it.scoped("does not repeat what only an operator can put right", () =>
    Effect.gen(function* () {
      const { upstream, disk, credentials } = yield* make()
      upstream.revoking = "refuse"
      yield* credentials.mint(aJob("job_a"))
      yield* credentials.release("job_a")
      yield* eventually("given up", () => disk.states[0] === "failed")
      yield* TestClock.adjust("1 hour")
      expect(upstream.calls.filter((call) => call === "revoke")).toHaveLength(1)
    })
  )

  it.scoped("waits longer from one try to the next, up to a limit", () =>
    Effect.gen(function* () {
      const { upstream, disk, credentials } = yield* make({ maxRevokeRetry: 8_000, revokeRetry: 1_000 })
      upstream.revoking = "fail"
      yield* credentials.mint(aJob("job_a"))
      yield* credentials.release("job_a")
      const tries: Array<number> = []
      for (let second = 0; second < 300 && disk.states[0] !== "failed"; second++) {
        yield* TestClock.adjust("1 seconds")
        while (tries.length < upstream.calls.filter((call) => call === "revoke").length) tries.push(second)
      }
      expect(tries).toHaveLength(12)
      const pauses = tries.slice(1).map((at, i) => at - (tries[i] ?? 0))
      expect(Math.max(...pauses)).toBeLessThanOrEqual(11)
      expect(pauses[pauses.length - 1]).toBeGreaterThan((pauses[0] ?? 0) + 2)
    })
  )

  it.scoped("an operator does not revoke what a job holds", () =>
    Effect.gen(function* () {
      const { upstream, credentials } = yield* make()
      const [credential] = yield* credentials.mint(aJob("job_a"))
      expect((yield* Effect.flip(credentials.revoke(credential?.id ?? ""))).message).toMatch(
        /a running job holds it/
      )
      expect(upstream.live.size).toBe(1)
    })
  )
})

describe("rotate", () => {
  it.scoped("a new value under the same id; the old one is revoked once the new one is recorded", () =>
    Effect.gen(function* () {
      const { upstream, disk, credentials } = yield* make()
      const [first] = yield* credentials.mint(aJob("job_a"))
      const id = first?.id ?? ""
      const second = yield* credentials.rotate("job_a", id)
      expect(upstream.calls.slice(0, 2)).toEqual(["mint openai job_a", "rotate live"])
      expect(second).toMatchObject({ id, profile: "openai", endpoint: first?.endpoint })
      expect(Redacted.value(second.value)).toBe("sk-value-1")
      expect(credentials.held("job_a")).toEqual([second])
      yield* eventually("the old one is gone", () => disk.records.size === 1)
      expect(Array.from(upstream.live.values())).toEqual(["sk-value-1"])
      const third = yield* credentials.rotate("job_a", id)
      expect(third.id).toBe(id)
      yield* credentials.release("job_a")
      yield* nothingLeft(upstream, disk)
    })
  )

  it.scoped("a rotation that fails leaves the credential as it was", () =>
    Effect.gen(function* () {
      const { upstream, disk, credentials } = yield* make()
      const [credential] = yield* credentials.mint(aJob("job_a"))
      for (const behaviour of ["refuse", "budget"] as const) {
        upstream.mints = [behaviour]
        expect(yield* Effect.flip(credentials.rotate("job_a", credential?.id ?? ""))).toBeInstanceOf(
          behaviour === "budget" ? BudgetExhausted : InternalError
        )
      }
      expect(credentials.held("job_a")).toEqual([credential])
      expect(Array.from(upstream.live.keys())).toEqual([credential?.id])
      yield* credentials.release("job_a")
      yield* nothingLeft(upstream, disk)
    })
  )

  it.scoped("of what no running job holds is INVALID_REQUEST", () =>
    Effect.gen(function* () {
      const { credentials } = yield* make()
      const [credential] = yield* credentials.mint(aJob("job_a"))
      const id = credential?.id ?? ""
      yield* credentials.mint(aJob("job_b"))
      expect(yield* Effect.flip(credentials.rotate("job_b", id))).toBeInstanceOf(InvalidRequest)
      expect(yield* Effect.flip(credentials.rotate("job_a", "cred_x"))).toBeInstanceOf(InvalidRequest)
      yield* credentials.release("job_a")
      expect(yield* Effect.flip(credentials.rotate("job_a", id))).toBeInstanceOf(InvalidRequest)
    })
  )

  it.scoped("several at once leave one", () =>
    Effect.gen(function* () {
      const { upstream, disk, credentials } = yield* make()
      const [credential] = yield* credentials.mint(aJob("job_a"))
      const rotate = credentials.rotate("job_a", credential?.id ?? "")
      yield* Effect.all([rotate, rotate, rotate], { concurrency: "unbounded" })
      // One after the other: two that replace the same one would both get what is left of its limits.
      expect(new Set(upstream.replaced).size).toBe(3)
      yield* eventually("one is left", () => disk.records.size === 1)
      expect(Array.from(upstream.live.values())).toEqual(["sk-value-3"])
      expect(credentials.held("job_a").map(({ value }) => Redacted.value(value))).toEqual(["sk-value-3"])
    })
  )

  for (const behaviour of ["ok", "hang", "hang after"] as const)
    it.scoped(`the job ends, or its agent is interrupted, in the middle: "${behaviour}"`, () =>
      Effect.gen(function* () {
        const { upstream, disk, credentials } = yield* make()
        const [credential] = yield* credentials.mint(aJob("job_a"))
        upstream.mints = ["fail", behaviour]
        const rotating = yield* Effect.fork(credentials.rotate("job_a", credential?.id ?? ""))
        yield* eventually("it is in the middle", () => upstream.mints.length <= (behaviour === "ok" ? 1 : 0))
        yield* credentials.release("job_a")
        yield* TestClock.adjust("1 seconds")
        yield* Fiber.interrupt(rotating)
        yield* nothingLeft(upstream, disk)
      })
    )
})

describe("after a restart", () => {
  it.scoped("whatever the last process left is revoked", () =>
    Effect.gen(function* () {
      const upstream = new Upstream()
      const states = ["minting", "active", "revoking", "failed"] as const
      const disk = new Disk(new Map(states.map((state) => [state, aRecord(state, { state })] as const)))
      for (const state of states) upstream.live.set(state, state)
      const credentials = yield* start(upstream.provisioner, disk.store)
      // New jobs do not wait for it.
      yield* credentials.mint(aJob("job_new"))
      yield* eventually("revoked", () => disk.records.size === 1)
      expect(Array.from(upstream.live.values())).toEqual(["sk-value-0"])
      expect(credentials.held("job_new")).toHaveLength(1)
    })
  )

  it.scoped("also when upstream is down at first, without hammering it", () =>
    Effect.gen(function* () {
      const upstream = new Upstream()
      const ids = Array.from({ length: 100 }, (_, i) => `cred_${i}`)
      const disk = new Disk(new Map(ids.map((id) => [id, aRecord(id, { state: "active" })])))
      for (const id of ids) upstream.live.set(id, id)
      upstream.revokes = ids.map(() => "hang")
      yield* start(upstream.provisioner, disk.store, { revokeConcurrency: 8 })
      yield* TestClock.adjust("1 seconds")
      expect(upstream.calls).toHaveLength(8)
      yield* nothingLeft(upstream, disk)
    })
  )

  /** Each operation is two steps, the doing and the answer: insert, mint, update; then rotation the same again. */
  for (const behaviour of ["ok", "late"] as const)
    for (let step = 0; step <= 22; step++)
      it.scoped(`kill -9 at step ${step} leaves no live credential (mint: ${behaviour})`, () =>
        Effect.gen(function* () {
          const upstream = new Upstream()
          upstream.profiles = ["openai", "search"]
          if (behaviour === "late") upstream.mints = ["ok", "late"]
          const disk = new Disk()
          const doomed = killedAt(step, upstream.provisioner, disk.store)
          const before = yield* start(doomed.provisioner, doomed.store)
          // Nothing ends it: that is what being dead means.
          yield* Effect.forkDaemon(
            Effect.gen(function* () {
              const [credential] = yield* before.mint(aJob("job_a"))
              yield* before.rotate("job_a", credential?.id ?? "")
              yield* before.release("job_a")
            })
          )
          for (let i = 0; i < 5 && !doomed.dead; i++) yield* TestClock.adjust("1 seconds")
          expect(doomed.dead).toBe(true)
          // Upstream may have any of them, and there is a record of each.
          for (const id of upstream.live.keys()) expect(disk.records.has(id)).toBe(true)

          upstream.mints = []
          yield* start(upstream.provisioner, new Disk(disk.records).store)
          yield* TestClock.adjust(lateMs)
          yield* nothingLeft(upstream, disk)
        })
      )

  it.scoped("a clock that was wrong does not keep it unsettled for ever", () =>
    Effect.gen(function* () {
      const upstream = new Upstream()
      const disk = new Disk(new Map([["cred_a", aRecord("cred_a", { unsettledUntil: 1e15 })]]))
      yield* start(upstream.provisioner, disk.store)
      yield* nothingLeft(upstream, disk)
    })
  )

  it.scoped("a failed one is tried again", () =>
    Effect.gen(function* () {
      const upstream = new Upstream()
      const disk = new Disk(new Map([["cred_a", aRecord("cred_a", { state: "failed", attempts: 12 })]]))
      upstream.live.set("cred_a", "sk")
      upstream.revokes = ["fail"]
      yield* start(upstream.provisioner, disk.store)
      yield* nothingLeft(upstream, disk)
    })
  )

  it.effect("a store that cannot be read keeps the runtime from starting", () =>
    Effect.gen(function* () {
      const disk = new Disk()
      const store = { ...disk.store, list: Effect.fail({ _tag: "StoreError", message: "corrupt" } as never) }
      expect(
        Exit.isFailure(yield* Effect.exit(Effect.scoped(start(new Upstream().provisioner, store))))
      ).toBe(true)
    })
  )
})

describe("secrets", () => {
  it.effect("are in no log, span, error, record, or text of anything", () =>
    Effect.gen(function* () {
      const seen: Array<string> = []
      const see = (value: unknown) =>
        seen.push(Inspectable.format(value), JSON.stringify(value) ?? "", String(value))
      const logger = Logger.make(({ message, annotations, cause, spans }) => {
        see(message)
        see(cause)
        see(Array.from(annotations))
        see(Array.from(spans))
      })
      const tracer = Tracer.make({
        span: (name, parent, context, links, startTime, kind) => {
          const span: Tracer.Span = {
            _tag: "Span",
            name,
            spanId: "0000000000000001",
            traceId: "00000000000000000000000000000001",
            parent,
            context,
            status: { _tag: "Started", startTime },
            attributes: new Map(),
            links,
            sampled: true,
            kind,
            end: (_, exit) => see(exit),
            attribute: (key, value) => see([key, value]),
            event: (event, _, attributes) => see([event, attributes]),
            addLinks: () => {}
          }
          see(name)
          return span
        },
        context: (f) => f()
      })
      const upstream = new Upstream()
      const disk = new Disk()
      yield* Effect.gen(function* () {
        const credentials = yield* start(upstream.provisioner, disk.store, {
          mintAttempts: 1,
          revokeAttempts: 2
        })
        const [credential] = yield* credentials.mint(aJob("job_a"))
        see(credential)
        see(credentials.held("job_a"))
        upstream.mints = ["ok", "defect", "fail after"]
        see(yield* credentials.rotate("job_a", credential?.id ?? ""))
        see(yield* Effect.exit(credentials.rotate("job_a", credential?.id ?? "")))
        see(yield* Effect.exit(credentials.mint(aJob("job_b"))))
        upstream.revoking = "defect"
        yield* credentials.release("job_a")
        yield* eventually(
          "given up",
          () => disk.states.length > 0 && disk.states.every((state) => state === "failed")
        )
        see(yield* credentials.outstanding)
        see(yield* Effect.exit(credentials.revoke(credential?.id ?? "")))
        see(Array.from(disk.records.values()))
      }).pipe(
        Effect.scoped,
        Effect.provide(Logger.replace(Logger.defaultLogger, logger)),
        Logger.withMinimumLogLevel(LogLevel.All),
        Effect.withTracer(tracer)
      )
      expect(upstream.values.length).toBeGreaterThan(3)
      expect(seen.join("\n")).toContain("arcp.credentials.mint")
      expect(seen.join("\n")).toContain("may still be good")
      for (const value of upstream.values) expect(seen.join("\n")).not.toContain(value)
    })
  )

  it.scoped("a provisioner that lets one slip, and more than a line of it, is cut short", () =>
    Effect.gen(function* () {
      const { disk, upstream } = yield* make()
      const provisioner = {
        ...upstream.provisioner,
        revoke: () =>
          Effect.fail(
            new (class extends Error {
              readonly _tag = "ProvisionError"
              readonly retryable = false
            })(`Bearer abc.def-1 and sk-live_99\n${"x".repeat(5_000)}`) as never
          )
      }
      disk.records.set("cred_a", aRecord("cred_a"))
      const credentials = yield* start(provisioner, disk.store)
      yield* eventually("given up", () => disk.states[0] === "failed")
      const [record] = yield* credentials.outstanding
      expect(record?.lastError).toMatch(/^<redacted> and <redacted> x+…$/)
      expect(record?.lastError).toHaveLength(512)
    })
  )
})
