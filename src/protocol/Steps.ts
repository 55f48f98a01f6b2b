/**
 * Work in parts. A generator that yields between them lets whoever runs it decide what happens there: nothing, or a
 * turn of the event loop for everybody else (layers/runtime/inTurns.ts).
 */
export type Steps<A> = Generator<undefined, A, undefined>

/** Does all of the work at once. */
export const finish = <A>(steps: Steps<A>): A => {
  for (;;) {
    const part = steps.next()
    if (part.done === true) return part.value
  }
}

/** Steps that work may still take. Below zero it is given up. */
export interface Effort {
  left: number
}

export const unlimited = (): Effort => ({ left: Number.POSITIVE_INFINITY })

/** Steps between two pauses: one or two milliseconds of work. */
export const stepsPerPart = 20_000
