/** A log over a store whose commits wait and fail when a test says so. */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as StoreMemory from "../../../src/layers/store/StoreMemory.js"
import type { JobLog } from "../../../src/services/log/EventLog.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { Store, StoreError, type StoreService } from "../../../src/services/store/Store.js"
import { event, runOn } from "./harness.js"

/** A durable store whose commits wait at a latch, and fail when the test says. */
export const makeStore = (inner: () => Layer.Layer<Store, StoreError> = StoreMemory.layer) => {
  const gate = Effect.unsafeMakeLatch(true)
  const control: {
    failing: StoreError | undefined
    /** The job of which nothing is taken. */
    refused: string | undefined
    tries: number
    largest: number
  } = {
    failing: undefined,
    refused: undefined,
    tries: 0,
    largest: 0
  }
  const layer = Layer.effect(
    Store,
    Effect.map(
      Store,
      (store): StoreService => ({
        ...store,
        kind: "durable",
        commit: (batch) =>
          Effect.zipRight(
            gate.await,
            Effect.suspend(() => {
              control.tries++
              if (control.failing !== undefined) return control.failing
              if (batch.ops.some((op) => op._tag === "Append" && op.jobId === control.refused)) return full
              const events = batch.ops.flatMap((op) => (op._tag === "Append" ? op.events : []))
              control.largest = Math.max(control.largest, events.length)
              return store.commit(batch)
            })
          )
      })
    )
  ).pipe(Layer.provide(inner()))
  return { control, gate, layer, run: runOn(() => layer) }
}

export const full = new StoreError({ message: "the disk is full" })

/** An event that is a mistake. */
export const unreadable = (n: number) =>
  Object.defineProperty(event("log", n), "kind", {
    get: () => {
      throw new Error("an event that cannot be read")
    }
  })

/** Lets everything happen that can without the clock. */
export const quiet = Effect.repeatN(eventLoop.next, 5)

export const isWaiting = <A, E>(fiber: Fiber.Fiber<A, E>) =>
  Effect.map(Fiber.poll(fiber), (exit) => exit._tag === "None")

export const storedOf = (job: JobLog) =>
  Effect.flatMap(Store, (store) =>
    Effect.map(store.events(job.jobId, 1, 10_000), (events) =>
      events.map(({ payload }) => (JSON.parse(payload) as { body?: { n: number } }).body?.n)
    )
  )
