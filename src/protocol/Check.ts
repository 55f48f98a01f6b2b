/**
 * Reads JSON values without `effect/Schema`, for the client, whose size in a browser counts. What each gives is bound to a
 * schema's type by the compiler, and what it takes to the schema itself by a property test. They are as lenient as a client
 * should be: null is as good as missing, and a number may come as text.
 */

/** Returns what a value is read as; throws the path, and not the value, when it is missing or no `A`. */
export type Check<A> = (value: unknown, path: string) => A

const expected =
  <A>(is: (value: unknown) => value is A): Check<A> =>
  (value, path) => {
    if (is(value)) return value
    throw path
  }

export const string: Check<string> = expected((value) => typeof value === "string")
export const text: Check<string> = expected(
  (value): value is string => typeof value === "string" && value !== ""
)
export const boolean: Check<boolean> = expected((value) => typeof value === "boolean")
export const json: Check<Record<string, unknown>> = expected(
  (value): value is Record<string, unknown> =>
    typeof value === "object" && value !== null && !Array.isArray(value)
)

/** A finite number that `holds`, or the text of one. */
export const number = (holds: (value: number) => boolean): Check<number> => {
  const check = expected(
    (value): value is number => typeof value === "number" && Number.isFinite(value) && holds(value)
  )
  return (value, path) => check(typeof value === "string" && /\d$/.test(value) ? Number(value) : value, path)
}
export const integer: Check<number> = number(Number.isInteger)
export const count: Check<number> = number((value) => Number.isInteger(value) && value >= 0)
export const positive: Check<number> = number((value) => Number.isInteger(value) && value > 0)
export const amount: Check<number> = number((value) => value >= 0)

export const oneOf = <const A extends string>(...values: ReadonlyArray<A>): Check<A> =>
  expected((value): value is A => (values as ReadonlyArray<unknown>).includes(value))

/** Fills in what others may leave out. */
export const orElse =
  <A, B>(check: Check<A>, otherwise: B): Check<A | B> =>
  (value, path) =>
    value == null ? otherwise : check(value, path)

export const optional = <A>(check: Check<A>): Check<A | undefined> => orElse(check, undefined)

/** Whatever is not what it should be is as good as missing. */
export const ifGood =
  <A, B>(check: Check<A>, otherwise: B): Check<A | B> =>
  (value, path) => {
    try {
      return check(value, path)
    } catch {
      return otherwise
    }
  }

export const list: Check<ReadonlyArray<unknown>> = expected(Array.isArray)

export const array =
  <A>(check: Check<A>): Check<ReadonlyArray<A>> =>
  (value, path) =>
    list(value, path).map((part, i) => check(part, `${path}[${i}]`))

export const record =
  <A>(check: Check<A>): Check<Readonly<Record<string, A>>> =>
  (value, path) => {
    const whole = json(value, path)
    for (const key of Object.keys(whole)) check(whole[key], `${path}.${key}`)
    return whole as Readonly<Record<string, A>>
  }

/**
 * An object with these fields, and whatever else it has: what may be anything is not looked at. What is read in another way
 * than it came is put in its place.
 */
export const object = <A>(
  fields: {
    readonly [K in keyof A as unknown extends A[K] ? never : K]-?: Check<A[K]>
  }
): Check<A> => {
  const checks = Object.entries(fields) as ReadonlyArray<[string, Check<unknown>]>
  return (value, path) => {
    const whole = json(value, path)
    for (const [key, check] of checks) {
      const part = whole[key]
      const read = check(part, `${path}.${key}`)
      if (read !== part) whole[key] = read
    }
    return whole as A
  }
}
