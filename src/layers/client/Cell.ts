/** A value that changes, with its readers. */
import * as Effect from "effect/Effect"
import type * as Stream from "effect/Stream"
import type { Latest } from "../../services/client/ArcpClient.js"
import { called } from "../../services/runtime/called.js"
import { stream } from "./pull.js"

/** Holds the latest value, and gives it and its successors to whoever reads. */
export class Cell<A> implements Latest<A> {
  #version = 0
  #ended: boolean | undefined
  readonly #waiting = new Set<() => void>()

  #value: A
  constructor(value: A) {
    this.#value = value
  }

  set(value: A): void {
    this.#value = value
    this.#version++
    this.#wake()
  }
  /** There will be no other value. */
  end(): void {
    this.#ended = true
    this.#wake()
  }
  get current(): A {
    return this.#value
  }

  readonly get: Effect.Effect<A> = Effect.sync(() => this.#value)

  readonly changes: Stream.Stream<A> = this.reader(() => {
    let seen = -1
    return (value) => {
      if (seen === this.#version) return undefined
      seen = this.#version
      return [value]
    }
  })

  /** Returns a stream of what `start` makes of the value, each time it is read: the next item, or none until that changes. */
  reader<B>(start: () => (value: A) => readonly [B] | undefined): Stream.Stream<B> {
    return stream(() => {
      const look = start()
      return () => {
        const found = look(this.#value)
        if (found) return found
        if (this.#ended) return undefined
        const version = this.#version
        return called((back) => {
          this.#waiting.add(back)
          // A fiber may have let others go first on its way here.
          if (version !== this.#version || this.#ended) back()
          return () => this.#waiting.delete(back)
        })
      }
    })
  }

  #wake(): void {
    const waiting = [...this.#waiting]
    this.#waiting.clear()
    for (const resume of waiting) resume()
  }
}
