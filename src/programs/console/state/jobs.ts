/** The list of jobs of this page. */
import { effect, signal } from "@preact/signals"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import type { ArcpClientService } from "../../../services/client/ArcpClient.js"
import { type Entry, JobTable } from "../model/JobTable.js"
import { client } from "./connection.js"
import * as Listing from "./listing.js"

export const table = new JobTable()
/** Changes with the table. */
export const version = signal(0)
/** Why the list is not as it is at the runtime. */
export const problem = signal("")
/** Whether older jobs are still being read. */
export const loading = signal(true)

/** That somebody wants it to be looked at once. Who waits for it, and is interrupted, leaves nothing in it. */
const asked = Effect.runSync(Queue.sliding<void>(1))

/** Looks again at once, since something was done here. */
export const lookAgain = (): void => void Queue.unsafeOffer(asked, undefined)

const onChange = () => {
  version.value++
}

/** Asks whether a job of the list is still there; one that is not is dropped. */
export const verifyListed = (made: ArcpClientService, entry: Entry) =>
  Listing.verifyOne({ list: made.list, table, onChange }, entry)

const keep = (made: ArcpClientService) =>
  Effect.suspend(() => {
    loading.value = true
    return Listing.keep({
      list: made.list,
      table,
      asked: Queue.take(asked),
      isHidden: () => document.hidden,
      onChange,
      onRead: () => {
        loading.value = false
        version.value++
      },
      onLook: () => {
        problem.value = ""
      }
    })
  }).pipe(
    Effect.tapError((error) =>
      Effect.sync(() => {
        problem.value = error.message
      })
    ),
    Effect.retry({ while: () => client.value === made, schedule: Schedule.spaced("3 seconds") })
  )

let running: Fiber.RuntimeFiber<unknown, unknown> | undefined
effect(() => {
  const made = client.value
  if (running !== undefined) Effect.runFork(Fiber.interrupt(running))
  running = made === undefined ? undefined : Effect.runFork(keep(made))
})
