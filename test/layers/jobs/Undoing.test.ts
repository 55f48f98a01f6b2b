/**
 * Handlers that are run again only for their compensations: whatever they wait for, what is known is undone in time, and
 * nothing else that they do reaches anybody.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as TestClock from "effect/TestClock"
import * as Vendor from "../../../src/protocol/Vendor.js"
import { Credentials } from "../../../src/services/credentials/Credentials.js"
import { open } from "../../support/Wire.js"
import { makeStore, pong, submit } from "./support.js"
import {
  agents,
  ask,
  cancelled,
  does,
  type InEffect,
  type InPromises,
  isRunAgain,
  question,
  step,
  stepAsync,
  World
} from "./undoing.js"
import { durable, isEnd, start, until } from "./unloading.js"

/** What a handler does on its way out. */
const lasts: Record<string, readonly [InEffect, InPromises]> = {
  "writes its result": [
    (job) => Effect.flatMap(job.openResult(), (out) => Effect.zipRight(out.write("more"), out.end())),
    async (job) => {
      const out = await job.openResult()
      await out.write("more")
      await out.end()
    }
  ],
  "leaves a write of its result": [
    (job) => Effect.flatMap(job.openResult(), (out) => Effect.fork(out.write("more"))),
    async (job) => {
      const out = await job.openResult()
      void out.write("more")
    }
  ],
  "takes another step": [
    (job, world) => job.step("late", world.act("late")),
    (job, world) => job.step("late", () => void world.done.push("late"))
  ],
  sleeps: [(job) => job.sleep("nap", "1 hour"), (job) => job.sleep("nap", "1 hour")],
  asks: [(job) => job.input("another", question), (job) => job.input("another", question)],
  delegates: [
    (job) => Effect.flatMap(job.delegate("other", {}, { key: "child" }), (child) => child.await),
    async (job) => (await job.delegate("other", {}, { key: "child" })).result()
  ],
  emits: [
    (job) => Effect.zipRight(job.log("info", "bye"), job.flush),
    async (job) => {
      void job.log("info", "bye")
      await job.log("info", "bye", {}, { key: "bye" })
      await job.flush()
    }
  ]
}

/** What a handler does before the last step that it is needed for, and finds done when it is run again. */
const betweens: Record<string, readonly [InEffect, InPromises]> = {
  emits: [
    (job) =>
      Effect.all([
        job.log("info", "one"),
        job.artifact({ uri: "file:///a", content_type: "text/plain" }),
        job.flush
      ]),
    async (job, world) => {
      void job.log("info", "one")
      if (world.isAgain) void job.log("info", "two")
      await job.artifact({ uri: "file:///a", content_type: "text/plain" })
      await job.flush()
    }
  ],
  "writes its result": [
    (job) =>
      Effect.flatMap(job.openResult(), (out) => Effect.zipRight(out.write("more"), out.end(" and more"))),
    async (job, world) => {
      const out = await job.openResult()
      await out.write("more")
      if (world.isAgain) void out.write("and more")
      else await out.write(" ")
    }
  ],
  delegates: [
    (job) => Effect.flatMap(job.delegate("echoes", {}, { key: "child" }), (child) => child.await),
    async (job) => (await job.delegate("echoes", {}, { key: "child" })).result()
  ],
  "is asked, and not answered in time": [
    (job) => Effect.ignore(job.input("first", { ...question, expiresIn: "1 second" })),
    (job) => job.input("first", { ...question, expiresIn: "1 second" }).catch(() => {})
  ],
  sleeps: [(job) => job.sleep("nap", "1 second"), (job) => job.sleep("nap", "1 second")]
}

describe("a handler that is run again only for its compensations", () => {
  for (const [what, [effect, promise]] of Object.entries(lasts))
    for (const [form, agent] of agents(
      (job, world) =>
        Effect.ensuring(
          Effect.zipRight(step(job, world, "a"), ask(job)),
          Effect.suspend(() => (world.isAgain ? Effect.exit(effect(job, world)) : Effect.void))
        ),
      async (job, world) => {
        try {
          await stepAsync(job, world, "a")
          await job.input("ok", question)
        } finally {
          if (world.isAgain) await promise(job, world)
        }
      }
    ))
      it.scoped(`is done when ${form} ${what} on its way out`, () =>
        Effect.gen(function* () {
          const world = new World()
          const { after, end } = yield* cancelled(agent(world))
          assert.isUndefined(yield* end)
          assert.deepStrictEqual(world.done, ["do a", "undo a"])
          assert.strictEqual(world.load, 2)
          const kinds = after().flatMap(({ payload }) => payload.kind ?? [])
          assert.deepStrictEqual(new Set(kinds), new Set([Vendor.step, Vendor.inputClosed]))
        })
      )

  for (const [form, agent] of agents(
    (job, world) =>
      Effect.ensuring(
        Effect.zipRight(step(job, world, "a"), ask(job)),
        Effect.suspend(() => (world.isAgain ? Effect.never : Effect.void))
      ),
    async (job, world) => {
      try {
        await stepAsync(job, world, "a")
        await job.input("ok", question)
      } finally {
        void job.signal
        if (world.isAgain) await new Promise(() => {})
      }
    }
  ))
    it.scoped(`is waited for half of the time when ${form} does not end`, () =>
      Effect.gen(function* () {
        const world = new World()
        const { end, session } = yield* cancelled(agent(world))
        yield* isRunAgain(world, session)
        yield* TestClock.adjust("14 seconds")
        yield* pong(session)
        assert.deepStrictEqual(world.done, ["do a"])
        yield* TestClock.adjust("1 seconds")
        assert.isUndefined(yield* end)
        assert.deepStrictEqual(world.done, ["do a", "undo a"])
      })
    )

  const awaiting = (isIt: "never" | "slow") =>
    agents(
      (job, world) =>
        Effect.gen(function* () {
          yield* step(job, world, "a")
          if (world.isAgain) yield* isIt === "never" ? Effect.never : Effect.sleep("20 seconds")
          yield* step(job, world, "b")
          return yield* ask(job)
        }),
      async (job, world) => {
        await stepAsync(job, world, "a")
        void job.signal
        if (world.isAgain)
          await (isIt === "never"
            ? new Promise(() => {})
            : new Promise((resolve) => {
                world.wake = () => resolve(undefined)
              }))
        await stepAsync(job, world, "b")
        await job.input("ok", question)
      }
    )

  for (const [form, agent] of awaiting("never"))
    it.scoped(`has undone what it has told when ${form} waits for what never comes`, () =>
      Effect.gen(function* () {
        const world = new World()
        const { end, session } = yield* cancelled(agent(world))
        yield* isRunAgain(world, session)
        yield* TestClock.adjust("15 seconds")
        yield* does(world, "undo a")
        yield* TestClock.adjust("15 seconds")
        assert.deepStrictEqual(yield* end, ["b"])
        assert.deepStrictEqual(world.done, ["do a", "do b", "undo a"])
      })
    )

  for (const [form, agent] of awaiting("slow"))
    it.scoped(`has undone what it tells late when ${form} is slow`, () =>
      Effect.gen(function* () {
        const world = new World()
        const { end, session } = yield* cancelled(agent(world))
        yield* isRunAgain(world, session)
        yield* TestClock.adjust("15 seconds")
        yield* does(world, "undo a")
        yield* TestClock.adjust("5 seconds")
        world.wake()
        assert.isUndefined(yield* end)
        assert.deepStrictEqual(world.done, ["do a", "do b", "undo a", "undo b"])
      })
    )

  for (const [form, agent] of agents(
    (job, world) => Effect.zipRight(step(job, world, "a"), Effect.zipRight(world.act("go on"), ask(job))),
    async (job, world) => {
      await stepAsync(job, world, "a")
      world.done.push("go on")
      await job.input("ok", question)
    }
  ))
    it.scoped(`goes no further than to the last step that it is needed for: ${form}`, () =>
      Effect.gen(function* () {
        const world = new World()
        const { end } = yield* cancelled(agent(world))
        assert.isUndefined(yield* end)
        assert.deepStrictEqual(world.done, ["do a", "go on", "undo a"])
      })
    )

  for (const [form, agent] of agents(
    (job, world) =>
      Effect.gen(function* () {
        const out = yield* job.openResult()
        yield* job.step("a", Effect.void, {
          compensate: () => Effect.zipRight(out.write("undone"), world.act("undo a"))
        })
        return yield* ask(job)
      }),
    async (job, world) => {
      const out = await job.openResult()
      await job.step("a", () => {}, {
        compensate: async () => {
          void out.write("not waited for")
          await out.write("undone")
          world.done.push("undo a")
        }
      })
      await job.input("ok", question)
    }
  ))
    it.scoped(`has no result, whatever is written while it is undone: ${form}`, () =>
      Effect.gen(function* () {
        const world = new World()
        const { after, end } = yield* cancelled(agent(world))
        assert.isUndefined(yield* end)
        assert.deepStrictEqual(world.done, ["undo a"])
        assert.notInclude(
          after().map(({ payload }) => payload.kind),
          "result_chunk"
        )
      })
    )

  for (const [what, [effect, promise]] of Object.entries(betweens))
    for (const [form, agent] of agents(
      (job, world) =>
        Effect.gen(function* () {
          yield* step(job, world, "a")
          yield* effect(job, world)
          yield* step(job, world, "b")
          return yield* ask(job)
        }),
      async (job, world) => {
        await stepAsync(job, world, "a")
        await promise(job, world)
        await stepAsync(job, world, "b")
        await job.input("ok", question)
      }
    ))
      it.scoped(`comes past what it has done when ${form} ${what}`, () =>
        Effect.gen(function* () {
          const world = new World()
          const { after, end } = yield* cancelled(agent(world))
          assert.isUndefined(yield* end)
          assert.deepStrictEqual(world.done, ["do a", "do b", "undo b", "undo a"])
          const kinds = after().flatMap(({ payload }) => payload.kind ?? [])
          assert.deepStrictEqual(new Set(kinds), new Set([Vendor.step, Vendor.inputClosed]))
        })
      )

  it.scoped("replaces no credential, and what undoes a step does", () =>
    Effect.gen(function* () {
      const world = new World()
      let value = 1
      const wire = () => [
        {
          id: "cred",
          scheme: "bearer" as const,
          value: Redacted.make(`secret ${value}`),
          endpoint: "https://llm"
        }
      ]
      const credentials = Layer.succeed(Credentials, {
        enabled: true,
        mint: () => Effect.sync(wire),
        held: wire,
        rotate: () =>
          Effect.sync(() => {
            value++
            world.done.push("rotate")
            return wire()[0] as never
          }),
        release: () => Effect.void,
        outstanding: Effect.succeed([]),
        revoke: () => Effect.void
      })
      const agent = durable("books", (job) =>
        Effect.gen(function* () {
          world.load++
          const { value } = yield* job.rotateCredential("cred")
          world.done.push(Redacted.value(value))
          yield* job.step("a", Effect.void, {
            compensate: () => Effect.zipRight(world.act("undo a"), job.rotateCredential("cred"))
          })
          return yield* ask(job)
        })
      )
      const { end } = yield* cancelled(agent, { credentials })
      assert.isUndefined(yield* end)
      assert.deepStrictEqual(world.done, ["rotate", "secret 2", "secret 2", "undo a", "rotate"])
    })
  )
})

describe("a handler that did not end in time", () => {
  it.scoped("tries no step again while others are undone", () =>
    Effect.gen(function* () {
      const world = new World()
      const agent = durable("books", (job) =>
        Effect.gen(function* () {
          yield* job.step("a", Effect.void, {
            compensate: () => Effect.zipRight(world.act("undo a"), Effect.sleep("25 seconds"))
          })
          const tries = job.step("b", Effect.zipRight(world.act("try b"), Effect.fail("no")), {
            retry: Schedule.spaced("20 seconds")
          })
          return yield* Effect.uninterruptible(tries)
        })
      )
      const process = yield* start(yield* makeStore, [agent])
      yield* Effect.addFinalizer(() => process.stop)
      const session = yield* process.run(open())
      const { job_id } = yield* submit(session, "books")
      yield* until(Effect.sync(() => world.done.length === 1))
      yield* session.request("job.cancel", {}, { job_id })
      yield* session.expect("job.cancelled")
      for (const _ of [1, 2, 3, 4, 5, 6]) {
        yield* TestClock.adjust("5 seconds")
        yield* pong(session)
      }
      yield* does(world, "undo a")
      const tried = world.done.slice()
      yield* TestClock.adjust("25 seconds")
      const { payload } = yield* session.next(isEnd)
      assert.isUndefined(payload.details?.not_undone)
      assert.deepStrictEqual(world.done, tried)
    })
  )
})
