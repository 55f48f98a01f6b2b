/** Patterns that can match nothing are granted as they are, and the submitter is told of them by name. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Registry from "../../../src/layers/agents/Registry.js"
import * as Auth from "../../../src/layers/auth/Auth.js"
import * as Runtime from "../../../src/layers/runtime/Runtime.js"
import * as TransportMemory from "../../../src/layers/transport/TransportMemory.js"
import { deadPattern } from "../../../src/protocol/Lease.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { open } from "../../support/Wire.js"

const idle = Agent.handle(Agent.make("idle", { version: "1.0.0" }), () => Effect.void)

const runtime = Runtime.serve().pipe(
  Layer.provideMerge(TransportMemory.layer()),
  Layer.provide(Runtime.layerMemory({ options: { shutdownGrace: "0 millis" } })),
  Layer.provide(Registry.layer([idle])),
  Layer.provide(Auth.layerStatic({ alice: "alice" }))
)

it("names each kind of pattern that can match nothing, and no other", () => {
  const dead: ReadonlyArray<readonly [string, ReadonlyArray<string>]> = [
    [
      "fs.read",
      [
        "C:\\Users\\**",
        "C:/Users/**",
        "~/**",
        "~",
        "tmp/**",
        "./x",
        "../x",
        "*",
        "",
        "/a\0b",
        "file:///x",
        "**/../x"
      ]
    ],
    [
      "net.fetch",
      [
        "https://",
        "https:///x",
        "example.com/**",
        "//example.com/x",
        "*",
        "",
        "ftp://example.com/x",
        "https://a..b/x"
      ]
    ],
    [
      "net.fetch",
      ["https:example.com", "https://user@example.com/x", "https://example.com:99999/", "https://a.b/\0"]
    ],
    ["tool.call", ["", "a\0b", "x\ny"]],
    ["agent.delegate", ["Survey", "survey@1.0.0", "", "two words"]]
  ]
  for (const [capability, patterns] of dead)
    for (const pattern of patterns)
      assert.include(
        deadPattern({ [capability]: ["**", pattern].slice(capability === "agent.delegate" ? 1 : 0) }) ??
          "alive",
        `${capability} ${JSON.stringify(pattern)} can match nothing`
      )
  const alive = {
    "fs.read": ["/", "/**", "**", "/~/x", "/a/../b"],
    "net.fetch": ["https://example.com/**", "https://*.example.com/**", "https://localhost:*/x", "**"],
    "tool.call": ["*", "mcp:files/*", "Search.web", "two words"],
    "agent.delegate": ["*", "**", "survey", "survey.*"]
  }
  assert.isUndefined(deadPattern(alive))
  assert.include(
    deadPattern({ "fs.read": Array.from({ length: 7 }, (_, i) => `~/${i}`) }) ?? "",
    'fs.read "~/0", "~/1", "~/2", "~/3", "~/4" and 2 more can match nothing'
  )
})

it.scoped.each(["C:\\Users\\**", "~/**", "tmp/**"])("%s is named", (pattern) =>
  Effect.gen(function* () {
    const session = yield* Effect.orDie(open())
    yield* session.request("job.submit", {
      agent: "idle",
      input: null,
      lease_request: { "fs.read": ["/src/**", pattern] }
    })
    const { payload } = yield* session.next((frame) => frame.payload.kind === "log")
    assert.strictEqual(payload.body.level, "warn")
    assert.include(payload.body.message, `fs.read ${JSON.stringify(pattern)} can match nothing`)
    yield* session.next((frame) => frame.type === "job.result")
  }).pipe(Effect.provide(runtime))
)
