/** Stores in the Postgres of the tests, each in tables of its own, which costs a fifth of a database of its own from a template. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { afterAll, it } from "vitest"
import * as StorePg from "../../../../src/layers/store/pg/StorePg.js"
import { database, missing } from "../../../testing/Postgres.js"

let stores = 0

/** A database for the tests of a file: to be dropped after them. */
export const makeStores = () => {
  let opened: ReturnType<typeof database> | undefined
  const open = () => {
    opened ??= database()
    return opened
  }
  const prefix = () => `t${++stores}_`
  /** A store in tables that nobody else has, new ones each time that it is built. */
  const layer = (options: Partial<StorePg.Options> = {}) =>
    Layer.unwrapEffect(
      Effect.map(Effect.promise(open), ({ url }) =>
        StorePg.layer({ url: Redacted.make(url), prefix: prefix(), ...options })
      )
    )
  return {
    url: async () => (await open()).url,
    layer,
    /** The same tables each time that it is built. */
    kept: () => layer({ prefix: prefix() }),
    drop: async () => {
      if (opened !== undefined) await (await opened).drop()
    }
  }
}

/**
 * Returns the stores in Postgres that the tests of a file run over too: one, or none where there is no Postgres, and then a
 * skipped test says why.
 */
export const alsoInPostgres = (): ReadonlyArray<Pick<ReturnType<typeof makeStores>, "layer" | "kept">> => {
  if (missing !== undefined) {
    it.skip(`the same in Postgres (${missing})`, () => undefined)
    return []
  }
  const made = makeStores()
  afterAll(made.drop)
  return [made]
}
