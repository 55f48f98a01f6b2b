/** `arcp serve` as those see it who look after it: health, metrics, and a collector that its environment names. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { afterEach, expect, it } from "vitest"
import { Program } from "../e2e/support/Program.js"
import { collector } from "../support/collector.js"
import { readExposition, sampleIn } from "../support/exposition.js"

const programs: Array<Program> = []
const scope = Effect.runSync(Scope.make())
afterEach(async () => {
  for (const program of programs.splice(0)) {
    program.signal("SIGKILL")
    await program.exited
  }
})

/** Starts a server; gives it and where it is, as http. */
const serving = (args: ReadonlyArray<string>, environment: NodeJS.ProcessEnv = {}) => {
  const program = new Program(
    ["serve", "--memory", "--port", "0", "--token", "t=alice", ...args],
    environment
  )
  programs.push(program)
  return new Promise<{ readonly program: Program; readonly at: (path: string) => string }>(
    (resolve, reject) => {
      const look = () => {
        const found = /^listening ws(:\/\/[^/\s]+)/m.exec(program.stdout)?.[1]
        if (found !== undefined) resolve({ program, at: (path) => `http${found}${path}` })
      }
      program.child.stdout?.on("data", look)
      look()
      void program.exited.then(() => reject(new Error(program.stderr)))
    }
  )
}

it("arcp serve answers for its health, and tells its metrics on this machine", async () => {
  const { at } = await serving([])
  expect(await (await fetch(at("/healthz"))).text()).toBe("ok\n")
  expect(await (await fetch(at("/readyz"))).text()).toBe("ready\n")
  const told = readExposition(await (await fetch(at("/metrics"))).text())
  expect(sampleIn(told, "process_resident_memory_bytes")).toBeGreaterThan(1e6)
  expect(sampleIn(told, "arcp_build_info", { version: "0.1.0" })).toBe(1)
  expect((await fetch(at("/metrics"), { headers: { via: "1.1 proxy" } })).status).toBe(403)
})

it("arcp serve tells its metrics to who shows a token, or to nobody", async () => {
  const byToken = await serving([], { ARCP_METRICS_TOKEN: "secret" })
  expect((await fetch(byToken.at("/metrics"))).status).toBe(401)
  const headers = { authorization: "Bearer secret" }
  expect((await fetch(byToken.at("/metrics"), { headers })).status).toBe(200)
  const off = await serving(["--metrics", "off"])
  expect((await fetch(off.at("/metrics"))).status).toBe(404)
  expect((await fetch(off.at("/healthz"))).status).toBe(200)
  const odd = new Program(["serve", "--memory", "--metrics", "all", "--metrics-token", "x"])
  programs.push(odd)
  expect((await odd.leaves()).code).toBe(2)
  expect(odd.stderr).toContain("--metrics-token")
})

it("arcp serve sends what is left to its collector before it ends, and ends without one", async () => {
  const sink = await Effect.runPromise(Scope.extend(collector(), scope))
  const environment = { OTEL_EXPORTER_OTLP_PROTOCOL: "http/json", OTEL_SERVICE_NAME: "served" }
  const { program } = await serving([], { ...environment, OTEL_EXPORTER_OTLP_ENDPOINT: sink.url })
  program.signal("SIGTERM")
  expect((await program.leaves()).code).toBe(0)
  expect(sink.resource("/v1/metrics")["service.name"]).toBe("served")
  expect(sink.logs().map(({ body }) => body.stringValue)).toContain("arcp has stopped")
  sink.answer(() => {})
  const hung = await serving([], { ...environment, OTEL_EXPORTER_OTLP_ENDPOINT: sink.url })
  hung.program.signal("SIGTERM")
  expect((await hung.program.leaves(30_000)).code).toBe(0)
  await Effect.runPromise(Scope.close(scope, Exit.void))
})
