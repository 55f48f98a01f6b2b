import { expect, it } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as RuntimeOptionsLayer from "../../../src/layers/runtime/RuntimeOptions.js"
import * as RuntimeOptions from "../../../src/services/runtime/RuntimeOptions.js"

const optionsOf = <E>(
  layer: Layer.Layer<RuntimeOptions.RuntimeOptions, E>,
  env: Record<string, string> = {}
) =>
  RuntimeOptions.RuntimeOptions.pipe(
    Effect.provide(layer),
    Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(env))))
  )

it.effect("fills in the documented defaults", () =>
  Effect.gen(function* () {
    const options = yield* optionsOf(RuntimeOptionsLayer.layer())
    expect(options).toMatchObject({
      resumeWindowSec: 600,
      heartbeatIntervalSec: 30,
      cancelGraceMs: 30_000,
      cancelOnBye: false,
      maxFrameBytes: 1_048_576,
      maxHelloFrameBytes: 65_536,
      helloTimeoutMs: 10_000,
      maxPendingHellos: 1_000,
      maxMalformedFrames: 20,
      malformedWindowMs: 10_000,
      maxSessionsPerPrincipal: 100,
      maxJobsPerSession: 100,
      maxJobsPerPrincipal: 1_000,
      maxSubscriptionsPerSession: 1_000,
      maxRetainedEvents: 1_000_000,
      maxRetainedBytes: 268_435_456,
      maxChunkBytes: 1_048_576,
      maxStreamedBytesMemory: 268_435_456,
      maxStreamedBytesDisk: 17_179_869_184,
      backPressureLag: 1_000,
      idempotencySec: 86_400
    })
    expect(yield* optionsOf(RuntimeOptionsLayer.layerConfig())).toEqual(options)
  })
)

it.effect("takes what is given and refuses what is out of range", () =>
  Effect.gen(function* () {
    expect((yield* optionsOf(RuntimeOptionsLayer.layer({ resumeWindowSec: 5 }))).resumeWindowSec).toBe(5)
    const error = yield* Effect.flip(optionsOf(RuntimeOptionsLayer.layer({ maxJobsPerSession: 0 })))
    expect(error._tag).toBe("ParseError")
  })
)

it.effect("has one variable for every option", () =>
  Effect.gen(function* () {
    const defaults = RuntimeOptions.make()
    for (const [option, value] of Object.entries(defaults)) {
      const name = `ARCP_${option.replace(/([A-Z])/g, "_$1").toUpperCase()}`
      const other = typeof value === "number" ? value + 1 : typeof value === "boolean" ? !value : `${value}x`
      expect(yield* optionsOf(RuntimeOptionsLayer.layerConfig(), { [name]: String(other) })).toEqual({
        ...defaults,
        [option]: other
      })
    }
  })
)

it.effect("lets the caller override the environment", () =>
  Effect.gen(function* () {
    const env = { ARCP_RESUME_WINDOW_SEC: "7", ARCP_CANCEL_GRACE_MS: "8" }
    const options = yield* optionsOf(RuntimeOptionsLayer.layerConfig({ resumeWindowSec: 9 }), env)
    expect(options).toMatchObject({ resumeWindowSec: 9, cancelGraceMs: 8 })
  })
)

it.effect("names the variable that is wrong", () =>
  Effect.gen(function* () {
    const problem = (env: Record<string, string>) =>
      Effect.map(Effect.flip(optionsOf(RuntimeOptionsLayer.layerConfig(), env)), String)
    expect(yield* problem({ ARCP_RESUME_WINDOW_SEC: "soon" })).toContain("ARCP_RESUME_WINDOW_SEC")
    expect(yield* problem({ ARCP_RESUME_WINDOW_SEC: "-1" })).toContain("ARCP_RESUME_WINDOW_SEC")
    expect(yield* problem({ ARCP_MAX_JOBS_PER_SESSION: "1.5" })).toContain("ARCP_MAX_JOBS_PER_SESSION")
    expect(yield* problem({ ARCP_CANCEL_ON_BYE: "perhaps" })).toContain("ARCP_CANCEL_ON_BYE")
  })
)
