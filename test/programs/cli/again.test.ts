/** `arcp fork` and `arcp retry`: jobs that go on from others, or are others once more. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, expect, it } from "vitest"
import { run, serving } from "./inProcess.js"

const folder = mkdtempSync(join(tmpdir(), "arcp-again-"))
afterAll(() => rmSync(folder, { recursive: true }))

const jobOf = (stderr: string): string => /job_\w{26}/.exec(stderr)?.[0] ?? ""

it("take over steps, and what is left out is as it was; a mistake says what to do", async () => {
  const file = join(folder, "lines")
  await serving(
    [
      "--agents",
      "conformance",
      "--token",
      "secret=me",
      "--db",
      join(folder, "arcp.db"),
      "--log-level",
      "none"
    ],
    async (url) => {
      const environment = { ARCP_URL: url, ARCP_TOKEN: "secret", XDG_STATE_HOME: folder, HOME: folder }
      const arcp = (...args: ReadonlyArray<string>) => run(args, environment)
      const input = (more: object) => JSON.stringify({ count: 4, file, ...more })
      const lease = ["--lease", `fs.write=${file}`, "--budget", "USD:1"]
      const lines = () => readFileSync(file, "utf8")

      const failed = await arcp("submit", "steps", "--input", input({ failAt: 3 }), ...lease)
      expect(failed.code).toBe(1)
      expect(lines()).toBe("1 1\n2 1\n")
      const first = jobOf(failed.stderr)

      const forked = await arcp("fork", first, "--at", "3", "--input", input({}))
      expect(forked.code).toBe(0)
      expect(JSON.parse(forked.stdout)).toEqual({ count: 4 })
      expect(forked.stderr).toContain(`forked took over 2 steps of ${first}, before 3`)
      expect(lines()).toBe("1 1\n2 1\n3 1\n4 1\n")

      // Its own input, lease and budget; more of the budget when that is asked for.
      const second = jobOf(forked.stderr)
      const detached = await arcp("retry", second, "--budget", "USD:2", "--detach", "--json")
      const { job_id, agent } = JSON.parse(detached.stdout) as { job_id: string; agent: string }
      expect(agent).toBe("steps@1.0.0")
      expect((await arcp("watch", job_id)).code).toBe(0)
      expect(lines()).toBe("1 1\n2 1\n3 1\n4 1\n1 1\n2 1\n3 1\n4 1\n")
      const listed = (await arcp("jobs", "--json")).stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as { job_id: string; lease: Record<string, ReadonlyArray<string>> })
      expect(listed.map((job) => [job.job_id, job.lease])).toEqual([
        [first, { "fs.write": [file], "cost.budget": ["USD:1"] }],
        [second, { "fs.write": [file], "cost.budget": ["USD:1"] }],
        [job_id, { "fs.write": [file], "cost.budget": ["USD:2"] }]
      ])

      writeFileSync(file, "")
      const unknown = await arcp("fork", second, "--at", "9")
      expect(unknown.code).toBe(1)
      expect(unknown.stderr).toContain(`has no step "9"; it has "1", "2", "3", "4"`)
      const wider = await arcp("fork", second, "--at", "2", "--lease", "fs.read=/**")
      expect(wider.code).toBe(1)
      expect(wider.stderr).toMatch(/LEASE_SUBSET_VIOLATION[\s\S]*ask for less/)
      const nowhere = await arcp("fork", second)
      expect(nowhere).toMatchObject({ code: 2, stdout: "" })
      expect(nowhere.stderr).toContain("--at STEP is missing")
      expect((await arcp("retry", "job_00000000000000000000000000")).stderr).toContain("arcp jobs lists")
      expect((await arcp("fork", second, "--at", "2", "--agent", "echo@1.0.0")).stderr).toContain(
        "steps@1.0.0"
      )
      expect(lines()).toBe("")
    }
  )
})

it("says so when the input is not kept, and takes another", async () => {
  await serving(
    [
      "--agents",
      "conformance",
      "--token",
      "secret=me",
      "--memory",
      "--limit",
      "storeInputs=false",
      "--log-level",
      "none"
    ],
    async (url) => {
      const environment = { ARCP_URL: url, ARCP_TOKEN: "secret", XDG_STATE_HOME: folder, HOME: folder }
      const first = jobOf((await run(["submit", "echo", "--input", "[1]"], environment)).stderr)
      const { code, stderr } = await run(["retry", first], environment)
      expect(code).toBe(1)
      expect(stderr).toMatch(/the input of job_\w+ is not stored; say it again[\s\S]*--input/)
      const again = await run(["retry", first, "--input", "null"], environment)
      expect({ ...again, stderr: "" }).toEqual({ code: 0, stdout: "null\n", stderr: "" })
    }
  )
})
