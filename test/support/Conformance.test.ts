import { expect, it } from "vitest"
import { everywhere, type Transport } from "../e2e/transports.js"
import { type Finished, missing, report } from "./Conformance.js"

const requirements = {
  shared: { section: "1", behaviour: "holds everywhere" },
  "sockets-only": {
    section: "1",
    behaviour: "holds over sockets",
    transports: { on: ["websocket"] as const, why: "sockets" }
  }
}

const finished = (
  state: "passed" | "failed" | "skipped",
  ids: ReadonlyArray<string>,
  transport: Transport = "websocket"
): Finished => ({
  fullName: "a test",
  module: { moduleId: new URL("../e2e/a.test.ts", import.meta.url).pathname },
  meta: () => ({ verified: ids.map((id) => ({ id, transport })) }),
  result: () => ({ state }) as ReturnType<Finished["result"]>
})

const all = [
  "shared over websocket",
  "shared over stdio",
  "shared over memory",
  "sockets-only over websocket"
]

it("what no test said is unverified, over every transport where it holds", () => {
  expect(missing(report([], requirements))).toEqual(all)
})

it("a test that failed or was skipped has verified nothing", () => {
  const tests = [finished("failed", ["shared"]), finished("skipped", ["sockets-only"])]
  expect(missing(report(tests, requirements))).toEqual(all)
})

it("a test verifies over the transport that it ran over, and no other", () => {
  const tests = [finished("passed", ["shared", "sockets-only"]), finished("passed", ["shared"], "memory")]
  expect(missing(report(tests, requirements))).toEqual(["shared over stdio"])
})

it("a requirement is named with the files that verified it", () => {
  const tests = everywhere.on.map((transport) => finished("passed", ["shared"], transport))
  const [shared] = report(tests, requirements).requirements
  expect(shared?.verified).toEqual(
    everywhere.on.map((on) => ({ file: "test/e2e/a.test.ts", test: "a test", on }))
  )
})
