/** Whose credentials are, and who revokes them, where several nodes share the records. */
import { assert, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import * as NodesMemory from "../../../src/layers/cluster/NodesMemory.js"
import * as WakeMemory from "../../../src/layers/cluster/WakeMemory.js"
import * as CredentialStoreMemory from "../../../src/layers/credentials/CredentialStoreMemory.js"
import { Cluster } from "../../../src/services/cluster/Cluster.js"
import { Nodes } from "../../../src/services/cluster/Nodes.js"
import { Wake } from "../../../src/services/cluster/Wake.js"
import type { CredentialStoreService } from "../../../src/services/credentials/CredentialStore.js"
import { Fenced, StoreError } from "../../../src/services/store/Store.js"
import { aRecord } from "./CredentialStore.suite.js"
import { aJob, eventually, start, Upstream } from "./credentials.js"

const fenced = new StoreError({ message: "node a was taken for gone", fenced: true })

/** Nodes that share a store, and an upstream. */
const make = Effect.gen(function* () {
  const shared = yield* CredentialStoreMemory.make
  const upstream = new Upstream()
  const nodes = Context.get(yield* Layer.build(NodesMemory.layer()), Nodes)
  const wake = Context.get(yield* Layer.build(WakeMemory.layer()), Wake)
  /** `gone`: its process has ended, or is none of the nodes any more: nothing that it writes is stored. */
  const node = (name: string, given: Partial<CredentialStoreService> = {}) =>
    Effect.gen(function* () {
      let isGone = false
      const unlessGone = <A, E>(write: Effect.Effect<A, E>) =>
        Effect.suspend((): Effect.Effect<A, E | StoreError> => (isGone ? fenced : write))
      const base = { ...shared, ...given }
      const store: CredentialStoreService = {
        ...base,
        kind: "durable",
        insert: (record) => unlessGone(base.insert(record)),
        update: (record) => unlessGone(base.update(record)),
        remove: (id, of) => unlessGone(base.remove(id, of))
      }
      const joined = yield* Scope.make()
      yield* Effect.addFinalizer(() => Scope.close(joined, Exit.void))
      yield* nodes
        .join({ name, address: undefined, version: "test" })
        .pipe(Scope.extend(joined), Effect.orDie)
      const credentials = yield* Effect.provideService(start(upstream.provisioner, store), Cluster, {
        node: name,
        nodes,
        wake
      })
      const leave = Effect.suspend(() => {
        isGone = true
        return Scope.close(joined, Exit.void)
      })
      return { ...credentials, leave }
    })
  return { node, shared, upstream }
})

const minted = (credentials: Effect.Effect.Success<ReturnType<Effect.Effect.Success<typeof make>["node"]>>) =>
  Effect.map(credentials.mint(aJob("job_a")), ([credential]) => credential?.id ?? "")

const revocations = ({ calls }: Upstream) => calls.filter((call) => call.startsWith("revoke"))

const whose = (store: CredentialStoreService) =>
  Effect.map(store.list, (records) =>
    // Ids of one millisecond are in no order.
    records
      .map(({ epoch, node, state }) => [node, epoch, state] as const)
      .sort(([a = ""], [b = ""]) => (a < b ? -1 : 1))
  )

it.scoped("what a job holds says whose it is, and is left alone while that node is there", () =>
  Effect.gen(function* () {
    const { node, shared, upstream } = yield* make
    const [a, b] = [yield* node("a"), yield* node("b")]
    yield* a.mint(aJob("job_a", { epoch: 3 }))
    yield* b.mint(aJob("job_b"))
    yield* TestClock.adjust("1 minute")
    assert.deepStrictEqual(yield* whose(shared), [
      ["a", 3, "active"],
      ["b", 1, "active"]
    ])
    assert.deepStrictEqual(revocations(upstream), [])
    assert.deepStrictEqual([yield* a.outstanding, yield* b.outstanding], [[], []])
    yield* a.release("job_a")
    yield* TestClock.adjust("1 second")
    assert.deepStrictEqual(yield* whose(shared), [["b", 1, "active"]])
    assert.deepStrictEqual(revocations(upstream), ["revoke"])
  })
)

it.scoped("what a node has left is revoked by one of the others, once", () =>
  Effect.gen(function* () {
    const { node, shared, upstream } = yield* make
    const a = yield* node("a")
    const others = [yield* node("b"), yield* node("c"), yield* node("d")]
    upstream.profiles = ["one", "two", "three"]
    yield* a.mint(aJob("job_a"))
    yield* Effect.forEach(others, (other, i) => other.mint(aJob(`job_${i}`)))
    assert.lengthOf(yield* shared.list, 12)
    yield* a.leave
    yield* TestClock.adjust("6 seconds")
    assert.deepStrictEqual(revocations(upstream), ["revoke", "revoke", "revoke"])
    assert.strictEqual(upstream.live.size, 9)
    assert.deepStrictEqual(
      new Set((yield* shared.list).map(({ node, state }) => `${node} ${state}`)),
      new Set(["b active", "c active", "d active"])
    )
  })
)

it.scoped("a node that begins revokes what it has left under its name, and what no node has", () =>
  Effect.gen(function* () {
    const { node, shared, upstream } = yield* make
    const left = [
      aRecord("cred_a", { node: "a", state: "active" }),
      aRecord("cred_b", { node: "b", state: "active" }),
      aRecord("cred_n", { state: "failed" })
    ]
    yield* node("b")
    for (const record of left) {
      yield* shared.insert(record)
      upstream.live.set(record.id, "sk")
    }
    yield* node("a")
    yield* TestClock.adjust("6 seconds")
    assert.deepStrictEqual([...upstream.live.keys()], ["cred_b"])
    assert.deepStrictEqual(yield* whose(shared), [["b", undefined, "active"]])
  })
)

it.scoped("a mint that a node has left without an answer is settled by the clock of whoever takes it", () =>
  Effect.gen(function* () {
    const { node, shared, upstream } = yield* make
    yield* TestClock.adjust("1 hour")
    // The clock of the other was an hour behind.
    yield* shared.insert(aRecord("cred_a", { node: "a", unsettledUntil: 60_000 }))
    yield* node("b")
    yield* TestClock.adjust("1 minute")
    assert.deepStrictEqual(revocations(upstream)[0], "revoke unknown")
    assert.lengthOf(yield* shared.list, 1)
    // It takes effect after all.
    upstream.live.set("cred_a", "sk")
    yield* eventually("it is revoked and settled", () => upstream.live.size === 0)
    yield* TestClock.adjust("2 minutes")
    assert.deepStrictEqual(yield* shared.list, [])
  })
)

it.scoped("records that are taken without an answer are found among one's own", () =>
  Effect.gen(function* () {
    const { node, shared, upstream } = yield* make
    let fails = 1
    const take: NonNullable<CredentialStoreService["shared"]>["take"] = (from, to) =>
      Effect.zipLeft(
        shared.shared?.take(from, to) ?? Effect.succeed([]),
        Effect.suspend(() => (fails-- > 0 ? new StoreError({ message: "no answer" }) : Effect.void))
      )
    yield* shared.insert(aRecord("cred_a", { node: "a", state: "active" }))
    upstream.live.set("cred_a", "sk")
    yield* node("b", { shared: { nodes: shared.shared?.nodes ?? Effect.succeed([]), take } })
    yield* TestClock.adjust("1 second")
    assert.deepStrictEqual(yield* whose(shared), [["b", undefined, "active"]])
    yield* TestClock.adjust("6 seconds")
    assert.deepStrictEqual([revocations(upstream), yield* shared.list], [["revoke"], []])
  })
)

it.scoped("what was given up is not tried again because something else could not be taken", () =>
  Effect.gen(function* () {
    const { node, shared, upstream } = yield* make
    upstream.revoking = "refuse"
    yield* shared.insert(aRecord("cred_b", { node: "b", state: "active" }))
    yield* node("b", {
      shared: {
        nodes: Effect.succeed(["a", "b"]),
        take: () => new StoreError({ message: "no answer" })
      }
    })
    yield* TestClock.adjust("1 second")
    assert.deepStrictEqual(yield* whose(shared), [["b", undefined, "failed"]])
    yield* TestClock.adjust("1 minute")
    assert.lengthOf(upstream.calls, 1)
  })
)

it.scoped("a node that was taken for gone mints nothing, and leaves to others what it held", () =>
  Effect.gen(function* () {
    const { node, shared, upstream } = yield* make
    const [a, b] = [yield* node("a"), yield* node("b")]
    yield* minted(a)
    yield* a.leave
    const error = yield* Effect.flip(a.mint(aJob("job_z")))
    assert.strictEqual(error._tag, "InternalError")
    yield* a.release("job_a")
    yield* TestClock.adjust("1 minute")
    // Once: by b.
    assert.deepStrictEqual(revocations(upstream), ["revoke"])
    assert.deepStrictEqual([upstream.live.size, yield* shared.list], [0, []])
    assert.deepStrictEqual(
      upstream.calls.filter((call) => call.startsWith("mint")),
      ["mint openai job_a"]
    )
    assert.deepStrictEqual(yield* b.outstanding, [])
  })
)

it.scoped("what is made for a node that is gone by then is unmade, also when others have given it up", () =>
  Effect.gen(function* () {
    const { node, shared, upstream } = yield* make
    const a = yield* node("a")
    yield* node("b")
    const answer = yield* Deferred.make<void>()
    const { mint } = upstream.provisioner
    Object.assign(upstream.provisioner, {
      mint: (request: Parameters<typeof mint>[0]) =>
        Effect.zipRight(Effect.uninterruptible(Deferred.await(answer)), mint(request))
    } satisfies Partial<typeof upstream.provisioner>)
    const minting = yield* Effect.fork(Effect.exit(a.mint(aJob("job_a"))))
    yield* Effect.yieldNow()
    yield* a.leave
    // As of a process that was stopped: to it no time has passed.
    const [record] = yield* shared.list
    yield* shared.remove(record?.id ?? "", "a")
    yield* Deferred.succeed(answer, undefined)
    assert.isTrue(Exit.isFailure(yield* Fiber.join(minting)))
    assert.lengthOf(upstream.values, 1)
    assert.strictEqual(upstream.live.size, 0)
    assert.deepStrictEqual(a.held("job_a"), [])
  })
)

it.scoped("what took too long to be recorded is not asked for, but anew", () =>
  Effect.gen(function* () {
    const { node, shared, upstream } = yield* make
    let slow = 1
    const insert: CredentialStoreService["insert"] = (record) =>
      Effect.zipRight(
        shared.insert(record),
        Effect.suspend(() => Effect.sleep(slow-- > 0 ? "3 minutes" : 0))
      )
    const a = yield* node("a", { insert })
    const minting = yield* Effect.fork(minted(a))
    yield* TestClock.adjust("2 minutes")
    assert.lengthOf(yield* shared.list, 1)
    yield* TestClock.adjust("2 minutes")
    const id = yield* Fiber.join(minting)
    assert.deepStrictEqual([...upstream.live.keys()], [id])
    assert.deepStrictEqual(
      (yield* shared.list).map((record) => record.id),
      [id]
    )
  })
)

it.scoped("a job that another node has by now is minted nothing here", () =>
  Effect.gen(function* () {
    const { node, shared, upstream } = yield* make
    const moved = new Fenced({ owners: [{ job: "job_a", epoch: 1 }] })
    let refusing: "insert" | "update" = "insert"
    const a = yield* node("a", {
      insert: (record) => (refusing === "insert" ? moved : shared.insert(record)),
      update: (record) => (record.state === "active" ? moved : shared.update(record))
    })
    const first = yield* Effect.flip(a.mint(aJob("job_a")))
    assert.match(first.message, /another node has the job by now/)
    assert.deepStrictEqual([upstream.calls, yield* shared.list], [[], []])
    refusing = "update"
    const second = yield* Effect.flip(a.mint(aJob("job_a")))
    assert.match(second.message, /another node has the job by now/)
    yield* TestClock.adjust("1 second")
    // It was made, by a node that is one: it unmakes it.
    assert.deepStrictEqual(
      [revocations(upstream), upstream.live.size, yield* shared.list],
      [["revoke"], 0, []]
    )
  })
)

it.scoped("a value that a stopped node still shows is never one that its successor was minted", () =>
  Effect.gen(function* () {
    const { node, upstream } = yield* make
    const [a, b] = [yield* node("a"), yield* node("b")]
    const [old] = yield* a.mint(aJob("job_a"))
    yield* a.leave
    const [anew] = yield* b.mint(aJob("job_a", { epoch: 2 }))
    yield* TestClock.adjust("6 seconds")
    assert.deepStrictEqual([...upstream.live.keys()], [anew?.id])
    yield* a.release("job_a")
    yield* Effect.exit(a.revoke(old?.id ?? ""))
    yield* Effect.exit(a.revoke(anew?.id ?? ""))
    yield* TestClock.adjust("1 minute")
    assert.deepStrictEqual([...upstream.live.values()], [Redacted.value(anew?.value ?? Redacted.make(""))])
  })
)
