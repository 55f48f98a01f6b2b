import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import * as NodeContext from "@effect/platform-node/NodeContext"
import { assert, describe, it } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import * as Detached from "../../../src/programs/cli/detached.js"

const tempFolder = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "arcp-detached-"))),
  (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
)

const state = { url: "ws://127.0.0.1:1/arcp", sessionId: "sess_a", resumeToken: "secret", lastEventSeq: 3 }

const mode = (name: string) => fs.statSync(name).mode & 0o777

describe("what is left for arcp cancel", () => {
  it.scoped("is for its owner only, also over a file that others could read or that leads elsewhere", () =>
    Effect.gen(function* () {
      const home = yield* tempFolder
      const folder = path.join(home, "arcp", "jobs")
      const file = path.join(folder, "job_a.json")
      const victim = path.join(home, "victim")
      fs.mkdirSync(folder, { recursive: true, mode: 0o755 })
      fs.writeFileSync(file, "", { mode: 0o644 })
      fs.writeFileSync(victim, "as it was", { mode: 0o644 })
      fs.symlinkSync(victim, path.join(folder, "job_b.json"))
      yield* Effect.gen(function* () {
        yield* Detached.save("job_a", state)
        yield* Detached.save("job_b", state)
        assert.deepStrictEqual([mode(folder), mode(file)], [0o700, 0o600])
        assert.deepStrictEqual(yield* Detached.load("job_a"), state)
        assert.strictEqual(fs.readFileSync(victim, "utf8"), "as it was")
        assert.deepStrictEqual(fs.readdirSync(folder).sort(), ["job_a.json", "job_b.json"])
        assert.isFalse(fs.lstatSync(path.join(folder, "job_b.json")).isSymbolicLink())
        // Nobody has come back for it in a month.
        fs.utimesSync(file, 0, 0)
        yield* TestClock.setTime(Date.now())
        yield* Detached.save("job_b", state)
        assert.deepStrictEqual(fs.readdirSync(folder), ["job_b.json"])
      }).pipe(
        Effect.provide(
          Layer.merge(
            NodeContext.layer,
            Layer.setConfigProvider(ConfigProvider.fromMap(new Map([["XDG_STATE_HOME", home]])))
          )
        )
      )
    })
  )
})
