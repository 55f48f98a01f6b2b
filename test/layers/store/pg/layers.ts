/** Stores in the Postgres of the tests, each in tables of its own. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as StorePg from "../../../../src/layers/store/pg/StorePg.js"
import { database } from "../../../testing/Postgres.js"

let stores = 0

/** A database for the tests of a file: to be dropped after them. */
export const makeStores = () => {
  let opened: ReturnType<typeof database> | undefined
  const open = () => {
    opened ??= database()
    return opened
  }
  return {
    url: async () => (await open()).url,
    /** A store in tables that nobody else has. */
    layer: (options: Partial<StorePg.Options> = {}) =>
      Layer.unwrapEffect(
        Effect.map(Effect.promise(open), ({ url }) =>
          StorePg.layer({ url: Redacted.make(url), prefix: `t${++stores}_`, ...options })
        )
      ),
    drop: async () => {
      if (opened !== undefined) await (await opened).drop()
    }
  }
}
