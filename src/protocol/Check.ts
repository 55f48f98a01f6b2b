/**
 * Checks of JSON values without `effect/Schema`, for the client, whose size in a browser counts. What each accepts
 * is bound to a schema's type by the compiler, and to the schema itself by a property test.
 */

/** What is wrong with a value, as a sentence that names its path and not the value; `undefined` when it is an `A`. */
export type Check<A> = ((value: unknown, path: string) => string | undefined) & {
  readonly A?: A
  /** What is taken for it when a field is missing, or null. */
  readonly otherwise?: A
}

const expected =
  <A>(what: string, holds: (value: unknown) => boolean): Check<A> =>
  (value, path) =>
    holds(value) ? undefined : `${path}: expected ${what}`

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

export const anything: Check<unknown> = () => undefined
export const string: Check<string> = expected("a string", (value) => typeof value === "string")
export const text: Check<string> = expected("a text", (value) => typeof value === "string" && value !== "")
export const boolean: Check<boolean> = expected("true or false", (value) => typeof value === "boolean")
export const number = (what: string, holds: (value: number) => boolean): Check<number> =>
  expected(what, (value) => typeof value === "number" && Number.isFinite(value) && holds(value))
export const integer: Check<number> = number("an integer", Number.isInteger)
export const count: Check<number> = number("an integer ≥ 0", (value) => Number.isInteger(value) && value >= 0)
export const amount: Check<number> = number("a number ≥ 0", (value) => value >= 0)
export const json: Check<Readonly<Record<string, unknown>>> = expected("an object", isObject)

export const oneOf = <const A extends string>(...values: ReadonlyArray<A>): Check<A> =>
  expected(values.join(", "), (value) => (values as ReadonlyArray<unknown>).includes(value))

export const optional =
  <A>(check: Check<A>): Check<A | undefined> =>
  (value, path) =>
    value === undefined ? undefined : check(value, path)

/** Fills in what others may leave out. */
export const orElse = <A>(check: Check<A>, otherwise: A): Check<A> =>
  Object.assign((value: unknown, path: string) => check(value, path), { otherwise })

export const nullable =
  <A>(check: Check<A>): Check<A | null> =>
  (value, path) =>
    value === null ? undefined : check(value, path)

export const either =
  <A, B>(one: Check<A>, other: Check<B>): Check<A | B> =>
  (value, path) =>
    one(value, path) === undefined ? undefined : other(value, path)

export const array =
  <A>(check: Check<A>): Check<ReadonlyArray<A>> =>
  (value, path) => {
    if (!Array.isArray(value)) return `${path}: expected an array`
    for (let i = 0; i < value.length; i++) {
      const problem = check(value[i], `${path}[${i}]`)
      if (problem !== undefined) return problem
    }
    return undefined
  }

export const record =
  <A>(check: Check<A>): Check<Readonly<Record<string, A>>> =>
  (value, path) => {
    if (!isObject(value)) return `${path}: expected an object`
    for (const [key, part] of Object.entries(value)) {
      const problem = check(part, `${path}.${key}`)
      if (problem !== undefined) return problem
    }
    return undefined
  }

/** An object with these fields, and whatever else it has. A field that is null is as good as missing, unless it may be null. */
export const object = <A>(fields: { readonly [K in keyof A]-?: Check<A[K]> }): Check<A> => {
  const checks = Object.entries(fields) as ReadonlyArray<[string, Check<unknown>]>
  return (value, path) => {
    if (!isObject(value)) return `${path}: expected an object`
    for (const [key, check] of checks) {
      const at = `${path}.${key}`
      const problem = check(value[key], at)
      if (problem === undefined) continue
      const { otherwise } = check
      if (value[key] != null || check(otherwise, at) !== undefined)
        return key in value ? problem : `${at}: is missing`
      value[key] = otherwise
    }
    return undefined
  }
}
