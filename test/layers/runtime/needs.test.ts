import { readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { needs } from "../../../src/services/runtime/needs.js"
import { optionalPackages } from "../../../src/services/runtime/optionalPackages.js"

describe("packages that only parts need", () => {
  it("are optional dependencies, in the version that is asked for", () => {
    const { optionalDependencies } = JSON.parse(
      readFileSync(new URL("../../../package.json", import.meta.url), "utf8")
    ) as { readonly optionalDependencies: Readonly<Record<string, string>> }
    for (const [name, version] of Object.entries(optionalPackages)) {
      const installed = optionalDependencies[name]
      assert.isTrue(
        installed?.startsWith(`${version}.`),
        `${name}: ${version}, and ${installed} is installed`
      )
    }
  })

  it.effect("are imported when they are there", () =>
    Effect.gen(function* () {
      const { decodeJwt } = yield* needs("a test", "jose", () => import("jose"))
      assert.isFunction(decodeJwt)
    })
  )

  it.effect("are named, with what to do, when they are not", () =>
    Effect.gen(function* () {
      const absent = "a-package-that-is-not-there"
      const error = yield* Effect.flip(needs("a test", "jose", () => import(absent)))
      assert.strictEqual(
        error.message,
        "a test needs jose, which is not installed here: npm i jose@6, or install everything, without --omit=optional"
      )
    })
  )

  it.effect("a package that is there and broken is a defect", () =>
    Effect.gen(function* () {
      const broken = new SyntaxError("Unexpected token")
      const exit = yield* Effect.exit(needs("a test", "jose", () => Promise.reject(broken)))
      assert.deepStrictEqual(exit, yield* Effect.exit(Effect.die(broken)))
    })
  )
})
