/** How many requests there are at once: in all, and of one principal, so that nobody takes the places of all. */
import type { ServerResponse } from "node:http"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { InternalError } from "../../protocol/Errors.js"

const tooMany = (max: number, whose = "") =>
  new InternalError({
    message: `limit reached: at most ${max} requests ${whose}at once; try again later`,
    details: { limit: "http_requests" }
  })

/** The places of requests. A place is given back when the answer is gone, or whoever asked. */
export class RequestPlaces {
  private running = 0
  private readonly runningOf = new Map<string, number>()

  constructor(
    private readonly bounds: { readonly maxRequests: number; readonly maxRequestsPerPrincipal: number }
  ) {}

  /** Takes a place for whoever asks; returns why there is none, if so. */
  take(response: ServerResponse): InternalError | undefined {
    const { maxRequests } = this.bounds
    if (this.running >= maxRequests) return tooMany(maxRequests)
    this.running++
    response.once("close", () => {
      this.running--
    })
    return undefined
  }

  /** Takes a place of a principal, beside that of all; returns why there is none, if so. */
  takeOf(principal: string, response: ServerResponse): InternalError | undefined {
    const { maxRequestsPerPrincipal: most } = this.bounds
    const now = this.runningOf.get(principal) ?? 0
    if (now >= most) return tooMany(most, "of one principal ")
    this.runningOf.set(principal, now + 1)
    response.once("close", () => {
      const left = (this.runningOf.get(principal) ?? 1) - 1
      if (left === 0) this.runningOf.delete(principal)
      else this.runningOf.set(principal, left)
    })
    return undefined
  }
}

/** The places of streams, of events and results, and of waits for the end of a job. */
export class StreamPlaces {
  private readonly openOf = new Map<string, number>()

  /** `most`: of one principal. */
  constructor(private readonly most: number) {}

  /** Takes a place of a principal for the scope. */
  take(principal: string): Effect.Effect<void, InternalError, Scope.Scope> {
    return Effect.acquireRelease(
      Effect.suspend(() => {
        const open = this.openOf.get(principal) ?? 0
        if (open >= this.most) return tooManyStreams(this.most)
        this.openOf.set(principal, open + 1)
        return Effect.void
      }),
      () =>
        Effect.sync(() => {
          const open = (this.openOf.get(principal) ?? 1) - 1
          if (open === 0) this.openOf.delete(principal)
          else this.openOf.set(principal, open)
        })
    )
  }
}

const tooManyStreams = (most: number) =>
  new InternalError({
    message: `limit reached: at most ${most} streams and waits of one principal; end some`,
    details: { limit: "http_streams" }
  })
