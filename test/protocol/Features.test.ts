import { expect, it } from "@effect/vitest"
import * as fc from "effect/FastCheck"
import * as Features from "../../src/protocol/Features.js"

const ours = (feature: string) => feature.startsWith("x-vendor.effect-arcp.")

it("are the protocol's, and few of our own", () => {
  expect(Features.all.filter((feature) => !ours(feature))).toEqual(
    (
      "heartbeat ack list_jobs subscribe lease_expires_at cost.budget model.use " +
      "provisioned_credentials progress result_chunk agent_versions"
    ).split(" ")
  )
  expect([...Features.all.filter(ours), ...Features.vendor]).toEqual([
    "x-vendor.effect-arcp.requests",
    "x-vendor.effect-arcp.input",
    "x-vendor.effect-arcp.renewal",
    "x-vendor.effect-arcp.agents",
    "x-vendor.effect-arcp.submitted_input",
    "x-vendor.effect-arcp.principal",
    "x-vendor.effect-arcp.transient",
    "x-vendor.effect-arcp.unobserved"
  ])
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
