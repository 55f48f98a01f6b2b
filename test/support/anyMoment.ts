/** A wait, and what it waits for happening between any two of its operations: a fiber may let others go first there. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { Scheduler, Task } from "effect/Scheduler"

/** Has fibers let others go first once, before the operation of this number. */
class YieldingOnce implements Scheduler {
  private readonly tasks: Array<Task> = []
  private operations = 0

  constructor(private readonly before: number) {}

  /** They have. */
  get hasYielded(): boolean {
    return this.operations > this.before
  }
  shouldYield(): number | false {
    return this.operations++ === this.before ? 0 : false
  }
  scheduleTask(task: Task): void {
    this.tasks.push(task)
  }
  /** Goes on until `isOver`, or until everybody waits. */
  run(isOver: () => boolean): void {
    while (!isOver()) {
      const task = this.tasks.shift()
      if (task === undefined) return
      task()
    }
  }
}

/** A wait, and what ends it. */
export interface Waited {
  readonly wait: Effect.Effect<unknown, unknown>
  readonly happen: () => void
}

/** Checks that a wait ends whenever what it waits for happens: before each of its operations, and when it waits. */
export const endsWheneverItHappens = (make: () => Waited): void => {
  for (let before = 0, isWaiting = false; !isWaiting; before++) {
    const { happen, wait } = make()
    const scheduler = new YieldingOnce(before)
    const fiber = Effect.runFork(wait, { scheduler })
    scheduler.run(() => scheduler.hasYielded)
    isWaiting = !scheduler.hasYielded
    happen()
    scheduler.run(() => false)
    assert.isNotNull(fiber.unsafePoll(), `what happens before operation ${before} is waited for for ever`)
  }
}
