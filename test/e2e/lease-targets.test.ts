import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import { attempt, expectError, scripted, toolErrors, verdict } from "./support/Authority.js"
import { ownServers, sharedServer } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const root = realpathSync(mkdtempSync(join(tmpdir(), "arcp-lease-")))
const server = sharedServer(["--memory", ...scripted])
const own = ownServers()
afterAll(() => rmSync(root, { recursive: true, force: true }))

const secret = "the secret of the file outside"
const open = "the text of the file inside"
for (const directory of ["inside/sub/deep", "outside/sub", "inside-not"]) {
  mkdirSync(join(root, directory), { recursive: true })
}
for (const file of [
  "inside/a.txt",
  "inside/sub/b.txt",
  "inside/sub/deep/c.txt",
  "inside/..a",
  "inside/sp ace"
]) {
  writeFileSync(join(root, file), open)
}
for (const file of ["outside/s.txt", "outside/sub/s.txt", "inside-not/s.txt", "a.txt", "s.txt"]) {
  writeFileSync(join(root, file), secret)
}
const links: ReadonlyArray<readonly [at: string, to: string]> = [
  ["inside/link", "../outside/s.txt"],
  ["inside/absolute", join(root, "outside/s.txt")],
  ["inside/dir", "../outside"],
  ["inside/chain", "chain-1"],
  ["inside/chain-1", "sub/../dir/s.txt"],
  ["inside/loop", "loop-1"],
  ["inside/loop-1", "loop"],
  ["inside/dangling", "../outside/not-there"],
  ["inside/good", "sub/b.txt"],
  ["inside/good-dir", "sub"],
  ["inside/root", "/"],
  ["outside/in", "../inside"]
]
for (const [at, to] of links) symlinkSync(to, join(root, at))

const read = async (path: string, patterns: ReadonlyArray<string>) => {
  const client = await WireClient.open(server.url)
  const run = await attempt(client, "read", { path }, { lease_request: { "fs.read": patterns } })
  return { ...run, everything: JSON.stringify([run.events, run.terminal]) }
}
const inside = [`${root}/inside/**`]

describe("fs.read", () => {
  it.each([
    "inside/a.txt",
    "inside/sub/b.txt",
    "inside/sub/deep/c.txt",
    "inside/..a",
    "inside/sp ace",
    "inside//a.txt",
    "inside/./a.txt",
    "inside/sub/../a.txt",
    "inside/not-there/../a.txt",
    "outside/../inside/a.txt",
    "inside/../inside/sub/b.txt",
    "/inside/a.txt",
    "inside/good",
    "inside/good-dir/b.txt"
  ])("inside the lease: %j is read", async (path) => {
    verifies("lease-paths", "lease-path-links")
    const { verdict, everything } = await read(`${root}/${path}`, inside)
    expect(verdict).toBe("allowed")
    expect(everything).toContain(open)
    expect(everything).not.toContain(secret)
  })

  it.each([
    "outside/s.txt",
    "inside/../outside/s.txt",
    "inside/sub/../../outside/s.txt",
    "inside/sub/deep/../../../../../../../../../../../../../../etc/hostname",
    "inside/./.././outside//s.txt",
    "inside/..",
    "inside-not/s.txt",
    "INSIDE/a.txt",
    "outside/in/a.txt",
    "inside/link",
    "inside/absolute",
    "inside/dir/s.txt",
    "inside/dir/sub/s.txt",
    "inside/chain",
    `inside/root${root}/outside/s.txt`,
    "inside/root/etc/passwd"
  ])("outside of it: %j is not", async (path) => {
    verifies("lease-paths", "lease-path-links", "lease-denial")
    const { verdict, everything, events } = await read(`${root}/${path}`, inside)
    expect(verdict).toBe("PERMISSION_DENIED")
    const [denial] = toolErrors(events)
    expect(denial?.callId).toBe("r1")
    expectError(denial?.error, "PERMISSION_DENIED")
    expect(everything).not.toContain(secret)
    expect(everything).not.toContain("root:")
  })

  it.each([
    "inside/a.txt\0",
    "inside/a.txt\0/../../outside/s.txt",
    "outside/s.txt\0inside/a.txt",
    "inside/%2e%2e/outside/s.txt",
    "inside/..%2foutside/s.txt",
    "inside\\..\\outside\\s.txt",
    "inside/dir/../a.txt",
    "inside/dir/../s.txt",
    "inside/link/../s.txt",
    "inside/loop",
    "inside/..a/../../s.txt",
    "inside/...//../../s.txt",
    "inside/.. /s.txt",
    "inside/\u2025/outside/s.txt",
    "inside/a.txt/../../s.txt",
    "inside/sub/",
    "inside"
  ])("whatever becomes of %j, nothing outside is read and the job ends", async (path) => {
    verifies("lease-paths", "lease-path-links")
    const { everything } = await read(`${root}/${path}`, inside)
    expect(everything).not.toContain(secret)
  })

  it.each(["inside/a.txt\0", "inside/\0", "\0"])("%j with NUL is refused", async (path) => {
    verifies("lease-paths")
    expect((await read(`${root}/${path}`, ["/**"])).verdict).toMatch(/PERMISSION_DENIED|INVALID_REQUEST/)
  })

  it.each([
    "package.json",
    "./package.json",
    "../../../../../../../../etc/passwd",
    "file:///etc/passwd",
    "~/.profile",
    ""
  ])("%j does not start in the lease", async (path) => {
    verifies("lease-paths")
    const { verdict, everything } = await read(path, inside)
    expect(verdict).not.toBe("allowed")
    expect(everything).not.toMatch(/devDependencies|root:/)
  })

  it("another view of the file system is not another way in", async () => {
    verifies("lease-paths", "lease-path-links")
    for (const path of [`/proc/self/root${root}/outside/s.txt`, "/proc/self/environ", "/dev/fd/0"]) {
      expect((await read(path, inside)).verdict).toBe("PERMISSION_DENIED")
    }
    // The lease names the path, but what is there is somewhere else.
    const through = await read(`/proc/self/root${root}/outside/s.txt`, ["/proc/self/root/**"])
    expect(through.everything).not.toContain(secret)
  })

  it.each([
    ["inside/*", "inside/a.txt", true],
    ["inside/*", "inside/sub/b.txt", false],
    ["inside/*.txt", "inside/a.txt", true],
    ["inside/*.md", "inside/a.txt", false],
    ["inside/*/b.txt", "inside/sub/b.txt", true],
    ["inside/*/c.txt", "inside/sub/deep/c.txt", false],
    ["inside/**/c.txt", "inside/sub/deep/c.txt", true],
    ["**/c.txt", "inside/sub/deep/c.txt", true],
    ["inside/**", "inside-not/s.txt", false],
    ["inside", "inside/a.txt", false],
    ["inside/", "inside/a.txt", false],
    ["inside/a.tx", "inside/a.txt", false],
    ["inside/a?txt", "inside/a.txt", false],
    ["inside/[a].txt", "inside/a.txt", false],
    ["inside/{a,b}.txt", "inside/a.txt", false]
  ])("pattern %j and %j: %s", async (pattern, path, allowed) => {
    verifies("lease-paths")
    const { verdict } = await read(`${root}/${path}`, [`${root}/${pattern}`])
    expect(verdict).toBe(allowed ? "allowed" : "PERMISSION_DENIED")
  })

  it("relative paths start in the workspace, and do not leave the lease", async () => {
    verifies("lease-paths", "lease-path-links")
    const { url } = await own.start("--memory", "--workspace", join(root, "inside"))
    const client = await WireClient.open(url)
    const relative = async (path: string, pattern = `${root}/inside/**`) => {
      const run = await attempt(client, "read", { path }, { lease_request: { "fs.read": [pattern] } })
      expect(JSON.stringify(run.events)).not.toContain(secret)
      expect(JSON.stringify(run.terminal)).not.toContain(secret)
      return run.verdict
    }
    for (const path of ["a.txt", "./a.txt", "sub/../a.txt", "sub//b.txt", "../inside/a.txt", "good"])
      expect(await relative(path), path).toBe("allowed")
    for (const path of [
      "../outside/s.txt",
      "../s.txt",
      "link",
      "dir/s.txt",
      "sub/../../s.txt",
      "../inside-not/s.txt"
    ])
      expect(await relative(path), path).toBe("PERMISSION_DENIED")
    expect(await relative("sub/b.txt", `${root}/inside/*`)).toBe("PERMISSION_DENIED")
  })

  it("fs.write is not fs.read", async () => {
    verifies("lease-paths")
    const client = await WireClient.open(server.url)
    const lease_request = { "fs.write": ["/**"], "tool.call": ["**"], "net.fetch": ["**"] }
    const run = await client.run("read", { path: `${root}/inside/a.txt` }, { lease_request })
    expect(verdict(run)).toBe("PERMISSION_DENIED")
  })

  it("what is outside looks the same whether it is there or not", async () => {
    verifies("lease-path-oracle")
    const answers = await Promise.all(
      ["outside/s.txt", "outside/nope!", "outside/sub", "outside/sub/nope!", "nope!/nope!"].map(
        async (path) => {
          const { verdict, events, terminal } = await read(`${root}/${path}`, inside)
          return JSON.stringify([verdict, toolErrors(events), terminal.payload.message]).replaceAll(
            path,
            "PATH"
          )
        }
      )
    )
    expect(new Set(answers).size).toBe(1)
  })

  it("nor does a link tell whether what it leads to is there", async () => {
    verifies("lease-path-oracle")
    const answers = await Promise.all(
      ["link", "dangling", "dir/s.txt", "dir/nope", "dir/nope/nope"].map(async (path) => {
        return (await read(`${root}/inside/${path}`, inside)).verdict
      })
    )
    expect(new Set(answers)).toEqual(new Set(["PERMISSION_DENIED"]))
  })
})

const api = "https://api.example.com/v1/**"
const star = "https://*.example.com/**"

describe("net.fetch", () => {
  it.each([
    [api, "https://api.example.com/v1/x", true],
    [api, "https://API.Example.COM/v1/x", true],
    [api, "HTTPS://api.example.com:443/v1/x", true],
    [api, "https://api.example.com/v1/x/../y", true],
    [api, "https://api.example.com/v2/../v1/x", true],
    [api, "https://api.example.com/v1/x#fragment", true],
    [api, "https://api.example.com/v1/x?q=1", true],
    [api, "https://api.example.com/%76%31/x", true],
    [api, "https://api.example.com:8443/v1/x", false],
    [api, "http://api.example.com/v1/x", false],
    [api, "http://api.example.com:443/v1/x", false],
    [api, "https://api.example.com/v2/x", false],
    [api, "https://api.example.com/V1/x", false],
    [api, "https://api.example.com/v1x/x", false],
    [api, "https://user:pass@api.example.com/v1/x", false],
    [api, "https://user@api.example.com/v1/x", false],
    [api, "https://@api.example.com@evil.com/v1/x", false],
    [api, "https://api.example.com@evil.com/v1/x", false],
    [api, "https://api.example.com%40evil.com/v1/x", false],
    [api, "https://api.example.com:443@evil.com/v1/x", false],
    [api, "https://evil.com/https://api.example.com/v1/x", false],
    [api, "https://evil.com#https://api.example.com/v1/x", false],
    [api, "https://api.example.com/v1/../admin", false],
    [api, "https://api.example.com/v1/%2e%2e/admin", false],
    [api, "https://api.example.com/v1/%2E%2E/admin", false],
    [api, "https://api.example.com/v1/.%2e/admin", false],
    [api, "https://api.example.com/v1/%2e./admin", false],
    [api, "https://api.example.com/v1\\..\\admin", false],
    [api, "https://api.example.com/v1/./.././admin", false],
    [api, "https://api.example.com/%2576%2531/x", false],
    [api, "https://api.example.com/v1%2fx", false],
    [api, "https://api.example.com.evil.com/v1/x", false],
    [api, "https://evil-api.example.com/v1/x", false],
    [api, "https://xapi.example.com/v1/x", false],
    [api, "https://api.example.com./v1/x", false],
    [api, "https://api.example.com\\@evil.com/v1/x", false],
    [api, "https://api.example.com\t.evil.com/v1/x", false],
    [api, "https:api.evil.com/v1/x", false],
    [api, "https://api。example。com.evil.com/v1/x", false],
    [api, "//api.example.com/v1/x", false],
    [api, "/v1/x", false],
    [api, "file:///etc/passwd", false],
    [api, "data:text/plain,x", false],
    [api, "javascript:1", false],
    [api, "not a url", false],
    [api, "", false],
    [star, "https://api.example.com/x", true],
    [star, "https://API.example.com/x/y", true],
    [star, "https://a.b.example.com/x", false],
    [star, "https://example.com/x", false],
    [star, "https://evil.com/.example.com/x", false],
    [star, "https://evil.com?.example.com/x", false],
    [star, "https://evil.com#.example.com/x", false],
    [star, "https://evil.com\\.example.com/x", false],
    [star, "https://evil.com:443.example.com/x", false],
    [star, "https://api.example.com.evil.com/x", false],
    [star, "https://user@api.example.com/x", false],
    [star, "https://api.example.com:444/x", false],
    ["https://h.example/a/*/c", "https://h.example/a/b/c", true],
    ["https://h.example/a/*/c", "https://h.example/a/x.y/c", true],
    ["https://h.example/a/*/c", "https://h.example/a/b/b/c", false],
    ["https://h.example/a/*", "https://h.example/a/b/c", false],
    ["https://h.example/a/*", "https://h.example/a/../b", false],
    ["https://h.example/**/c", "https://h.example/a/b/c", true],
    ["https://*/x", "https://localhost/x", true],
    ["https://*/x", "https://example.com/x", false],
    ["https://*.com/x", "https://evil.example.com/x", false],
    ["https://api.example.com", "https://api.example.com.evil.com/", false],
    ["https://api.example.*/x", "https://api.example.evil.com/x", false],
    ["http://127.0.0.1/**", "http://127.0.0.1:80/x", true],
    ["http://127.0.0.1/**", "http://127.0.0.1:8080/x", false],
    ["http://127.0.0.1:8080/**", "http://127.0.0.1:8080/x", true],
    ["http://127.0.0.1/**", "http://2130706433/x", true],
    ["http://127.0.0.1/**", "http://127.0.0.2/x", false],
    ["http://[::1]/**", "http://[0:0:0:0:0:0:0:1]/x", true],
    ["http://[::1]/**", "http://[::2]/x", false],
    ["https://xn--bcher-kva.example/**", "https://bücher.example/x", true],
    ["https://xn--bcher-kva.example/**", "https://bucher.example/x", false]
  ])("%j and %j: %s", async (pattern, url, allowed) => {
    verifies("lease-urls")
    const client = await WireClient.open(server.url)
    const run = await attempt(client, "fetch", { url }, { lease_request: { "net.fetch": [pattern] } })
    if (allowed) expect(run.verdict).toBe("allowed")
    else expect(run.verdict).toMatch(/^(PERMISSION_DENIED|INVALID_REQUEST)$/)
  })

  it("a pattern made to take for ever takes no time, and nobody waits for it", async () => {
    verifies("lease-linear", "fairness")
    const client = await WireClient.open(server.url)
    const other = await WireClient.open(server.url)
    const stars = `https://h.example/${"*a".repeat(120)}*b`
    const deep = `https://h.example/${"**/a/".repeat(120)}b`
    for (const [pattern, path] of [
      [stars, "a".repeat(50_000)],
      [deep, "a/".repeat(20_000)]
    ] as const) {
      const run = client.run(
        "fetch",
        { url: `https://h.example/${path}` },
        { lease_request: { "net.fetch": [pattern] } }
      )
      await other.ping()
      expect(verdict(await run)).toBe("PERMISSION_DENIED")
    }
  })
})
