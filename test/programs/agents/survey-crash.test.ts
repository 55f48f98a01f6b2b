/** A survey whose process dies: at whichever commit that is, the report has the same bytes. */
import * as FileSystem from "@effect/platform/FileSystem"
import * as NodeContext from "@effect/platform-node/NodeContext"
import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Registry from "../../../src/layers/agents/Registry.js"
import * as Auth from "../../../src/layers/auth/Auth.js"
import * as Runtime from "../../../src/layers/runtime/Runtime.js"
import * as SecretsLayer from "../../../src/layers/runtime/Secrets.js"
import * as TransportMemory from "../../../src/layers/transport/TransportMemory.js"
import { agents } from "../../../src/programs/agents/demo.js"
import { Store, type StoreService } from "../../../src/services/store/Store.js"
import { makeStore, restarted, resume, submit, type TestStore } from "../../layers/jobs/support.js"
import { type Frame, open } from "../../support/Wire.js"

/** A process on a store, from which nothing more is stored after its `commits`-th commit. */
const start = (test: TestStore, commits = Number.POSITIVE_INFINITY) =>
  Effect.gen(function* () {
    const died = yield* Deferred.make<void>()
    let left = commits
    const store: StoreService = {
      ...test.store,
      commit: (batch) =>
        Effect.suspend(() => {
          if (left-- > 0) return test.store.commit(batch)
          test.cut = true
          return Effect.zipRight(Deferred.succeed(died, undefined), Effect.never)
        })
    }
    const scope = yield* Scope.make()
    const context = yield* Layer.buildWithScope(
      Runtime.serve().pipe(
        Layer.provideMerge(TransportMemory.layer()),
        Layer.provide(
          Runtime.layer({ options: { shutdownGrace: "0 millis", awaitEmits: true } }).pipe(
            Layer.provideMerge(Layer.succeed(Store, store))
          )
        ),
        Layer.provide(Registry.layer(agents)),
        Layer.provide(Auth.layerStatic({ alice: "alice" })),
        Layer.provide(Layer.merge(NodeContext.layer, SecretsLayer.layer))
      ),
      scope
    )
    return {
      run: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.provide(effect, context),
      died: Deferred.await(died),
      committed: () => commits - left,
      kill: Effect.forkDaemon(Scope.close(scope, Exit.void))
    }
  })

const isEnd = ({ type }: Frame) => type === "job.result" || type === "job.error"

const reportOf = (frames: ReadonlyArray<Frame>): string =>
  frames
    .filter(({ payload }) => payload.kind === "result_chunk")
    .map(({ payload }) => payload.body.data)
    .join("")

/** What ended, by key. */
const endedSteps = (frames: ReadonlyArray<Frame>): ReadonlyArray<string> =>
  frames
    .filter(({ payload }) => payload.kind === "x-vendor.effect-arcp.step" && payload.body.state === "ended")
    .map(({ payload }) => payload.body.key)

/** A tree of some parts. */
const tree = Effect.gen(function* () {
  const fs = yield* FileSystem.FileSystem
  const root = yield* fs.realPath(yield* fs.makeTempDirectoryScoped())
  for (let i = 0; i < 20; i++) {
    yield* fs.makeDirectory(`${root}/d${i % 3}`, { recursive: true })
    yield* fs.writeFileString(`${root}/d${i % 3}/${i}.ts`, `${"x\n".repeat(i + 1)}// TODO number ${i}\n`)
  }
  return root
})

const submitted = (root: string) => ({ lease_request: { "fs.read": [`${root}/**`] } })

describe("a survey whose process dies", () => {
  it.scopedLive("has the same report, at whichever commit it was", () =>
    Effect.gen(function* () {
      const root = yield* tree
      // Once without a death: how many commits that takes, and what the report is.
      const counting = yield* makeStore
      const whole = yield* start(counting, 1_000)
      const session = yield* whole.run(open())
      yield* whole.run(submit(session, "survey", { root }, submitted(root)))
      yield* session.next(isEnd)
      const report = reportOf(session.seen)
      expect(report).toContain("20 files, 230 lines")
      const commits = whole.committed()
      expect(commits).toBeGreaterThan(15)
      yield* whole.kill

      let recovered = 0
      for (let at = 2; at < commits; at++) {
        const store = yield* makeStore
        const first = yield* start(store, at)
        const before = yield* first.run(open())
        const id = yield* before.request("job.submit", {
          agent: "survey",
          input: { root },
          ...submitted(root)
        })
        yield* first.died
        yield* first.kill
        const second = yield* start(restarted(store))
        const after = yield* second.run(open(resume(before, 0)))
        // One that had not been stored is sent again, as a client does.
        yield* after.sendText(
          JSON.stringify({
            arcp: "1.1",
            id,
            type: "job.submit",
            session_id: after.sessionId,
            payload: { agent: "survey", input: { root }, ...submitted(root) }
          })
        )
        const end = yield* after.next(isEnd)
        expect(end.type, `killed at commit ${at}`).toBe("job.result")
        expect(reportOf(after.seen), `killed at commit ${at}`).toBe(report)
        const ended = endedSteps(after.seen)
        expect(new Set(ended).size).toBe(ended.length)
        const artifacts = after.seen.filter(({ payload }) => payload.kind === "artifact_ref")
        expect(artifacts.map(({ payload }) => payload.body.uri)).toEqual([
          `arcp:${end.job_id}/${end.payload.result_id}`
        ])
        if (after.seen.some(({ payload }) => payload.body?.phase === "recovered")) recovered++
        yield* second.kill
      }
      expect(recovered).toBeGreaterThan(10)
    }).pipe(Effect.provide(NodeContext.layer))
  )

  it.scopedLive("goes on over the files that it had found, whatever has come since", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const root = yield* tree
      const store = yield* makeStore
      const first = yield* start(store)
      const before = yield* first.run(open())
      yield* first.run(submit(before, "survey", { root }, submitted(root)))
      yield* before.next(
        ({ payload }) => payload.kind === "x-vendor.effect-arcp.step" && payload.body.key === "scan 1"
      )
      store.cut = true
      yield* first.kill
      yield* fs.writeFileString(`${root}/later.ts`, "x\n")
      const second = yield* start(restarted(store))
      const after = yield* second.run(open(resume(before, 0)))
      yield* after.next(isEnd)
      expect(reportOf(after.seen)).toContain("20 files, 230 lines")
      yield* second.kill
    }).pipe(Effect.provide(NodeContext.layer))
  )
})
