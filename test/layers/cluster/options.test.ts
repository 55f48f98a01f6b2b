/** What options of a store in Postgres, and of a node, have to be: told by name where they are given. */
import { assert, it } from "@effect/vitest"
import * as Redacted from "effect/Redacted"
import * as RuntimeCluster from "../../../src/layers/cluster/RuntimeCluster.js"
import * as StorePg from "../../../src/layers/store/pg/StorePg.js"

const url = Redacted.make("postgres://127.0.0.1/arcp")

it("are refused by name, and those that can be are not", () => {
  for (const [options, problem] of [
    [{ statementTimeout: "infinity" }, /StorePg\.layer: options\.statementTimeout has to be/],
    [{ statementTimeout: "25 days" }, /options\.statementTimeout has to be at most 24 days/],
    [{ lease: 0 }, /options\.lease has to be/],
    [{ maxConnections: 0 }, /options\.maxConnections has to be/]
  ] as const)
    assert.throws(() => StorePg.layer({ url, ...options } as StorePg.Options), problem)
  assert.throws(
    () => RuntimeCluster.layer({ url, expiry: 0 }),
    /RuntimeCluster\.layer: options\.expiry has to be/
  )
  StorePg.layer({ url, statementTimeout: "1 day", lease: "1 minute", patience: 0, prepare: false })
  RuntimeCluster.layer({ url, node: "a", expiry: "6 seconds" })
})
