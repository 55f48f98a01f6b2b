import { expect, it } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
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
      resumeWindow: Duration.seconds(600),
      heartbeatInterval: Duration.seconds(30),
      cancelGrace: Duration.millis(30000),
      cancelOnBye: false,
      maxFrameBytes: 1_048_576,
      maxHelloFrameBytes: 65_536,
      helloTimeout: Duration.millis(10000),
      maxPendingHellos: 1_000,
      maxMalformedFrames: 20,
      malformedWindow: Duration.millis(10000),
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
      idempotencyWindow: Duration.days(1),
      workspace: ""
    })
    expect(yield* optionsOf(RuntimeOptionsLayer.layerConfig())).toEqual(options)
  })
)

it.effect("takes what is given and refuses what is out of range", () =>
  Effect.gen(function* () {
    expect((yield* optionsOf(RuntimeOptionsLayer.layer({ resumeWindow: "5 seconds" }))).resumeWindow).toEqual(
      Duration.seconds(5)
    )
    const error = yield* Effect.flip(optionsOf(RuntimeOptionsLayer.layer({ maxJobsPerSession: 0 })))
    expect(error._tag).toBe("ParseError")
  })
)

it.effect("has one variable for every option", () =>
  Effect.gen(function* () {
    const defaults = RuntimeOptions.make()
    for (const [option, value] of Object.entries(defaults)) {
      const name = `ARCP_${option.replace(/([A-Z])/g, "_$1").toUpperCase()}`
      const other =
        typeof value === "number"
          ? value + 1
          : typeof value === "boolean"
            ? !value
            : Duration.isDuration(value)
              ? Duration.sum(value, "1 seconds")
              : value === "finish"
                ? "close"
                : `${value}x`
      expect(
        yield* optionsOf(RuntimeOptionsLayer.layerConfig(), {
          [name]: Duration.isDuration(other) ? `${Duration.toMillis(other)} millis` : String(other)
        })
      ).toEqual({
        ...defaults,
        [option]: other
      })
    }
  })
)

it.effect("lets the caller override the environment", () =>
  Effect.gen(function* () {
    const env = { ARCP_RESUME_WINDOW: "7 seconds", ARCP_CANCEL_GRACE: "8 millis" }
    const options = yield* optionsOf(RuntimeOptionsLayer.layerConfig({ resumeWindow: "9 seconds" }), env)
    expect(options).toMatchObject({ resumeWindow: Duration.seconds(9), cancelGrace: Duration.millis(8) })
  })
)

it.effect("names the variable that is wrong", () =>
  Effect.gen(function* () {
    const problem = (env: Record<string, string>) =>
      Effect.map(Effect.flip(optionsOf(RuntimeOptionsLayer.layerConfig(), env)), String)
    expect(yield* problem({ ARCP_RESUME_WINDOW: "soon" })).toContain("ARCP_RESUME_WINDOW")
    expect(yield* problem({ ARCP_RESUME_WINDOW: "-1" })).toContain("ARCP_RESUME_WINDOW")
    expect(yield* problem({ ARCP_MAX_JOBS_PER_SESSION: "1.5" })).toContain("ARCP_MAX_JOBS_PER_SESSION")
    expect(yield* problem({ ARCP_CANCEL_ON_BYE: "perhaps" })).toContain("ARCP_CANCEL_ON_BYE")
  })
)
