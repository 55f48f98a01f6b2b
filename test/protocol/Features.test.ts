import { expect, it } from "@effect/vitest"
import * as fc from "effect/FastCheck"
import * as Features from "../../src/protocol/Features.js"

it("are the protocol's, and what we support is among them", () => {
  expect(Features.all).toEqual(
    (
      "heartbeat ack list_jobs subscribe lease_expires_at cost.budget model.use " +
      "provisioned_credentials progress result_chunk agent_versions"
    ).split(" ")
  )
  for (const feature of Features.all) expect(Features.all).toContain(feature)
})

it("a client that sends none gets none", () => {
  expect(Features.negotiate(Features.all, undefined)).toEqual([])
  expect(Features.negotiate(Features.all, [])).toEqual([])
})

it.prop(
  "the effective set is the intersection, in our order, whatever theirs is",
  [fc.subarray([...Features.all]), fc.array(fc.oneof(fc.constantFrom(...Features.all), fc.string()))],
  ([ours, theirs]) => {
    const effective = Features.negotiate(ours, theirs)
    expect(effective).toEqual(ours.filter((feature) => theirs.includes(feature)))
    expect(Features.negotiate(ours, theirs.slice().reverse())).toEqual(effective)
  }
)
