/** The configuration of docs/running.md in a real nginx with TLS: silence, large frames, and restarts of either. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { type AddressInfo, connect, createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { afterAll, afterEach, beforeAll, expect, it } from "vitest"
import { listening, Program } from "../e2e/support/Program.js"
import { selfSigned } from "../layers/transport/certificate.js"

const nginx = ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"].find((path) => existsSync(path))
const folder = mkdtempSync(join(tmpdir(), "arcp-nginx-"))
afterAll(() => rmSync(folder, { recursive: true }))

const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, "close")
  return port
}

/** Waits until something listens, for a minute at the most. */
const answers = async (port: number): Promise<void> => {
  for (let i = 0; i < 1_200; i++) {
    const socket = connect(port, "127.0.0.1")
    const open = await Promise.race([
      once(socket, "connect").then(() => true),
      once(socket, "error").then(() => false)
    ]).catch(() => false)
    socket.destroy()
    if (open) return
    await sleep(50)
  }
  throw new Error(`nobody listens on ${port}`)
}

/** What the page says, with other names, ports, and times that a test can wait for. */
const configuration = (front: number, back: number): string => {
  const page = readFileSync(new URL("../../docs/running.md", import.meta.url), "utf8")
  const [, block = ""] = /```nginx\n([\s\S]*?)```/.exec(page) ?? []
  const changed = [
    ["server 127.0.0.1:7777;", `server 127.0.0.1:${back};`],
    ["listen 443 ssl;", `listen 127.0.0.1:${front} ssl;`],
    ["server_name agents.example.com;", "server_name localhost;"],
    ["/etc/ssl/agents.example.com.pem", join(folder, "cert.pem")],
    ["/etc/ssl/private/agents.example.com.key", join(folder, "key.pem")],
    ["proxy_read_timeout 90s;", "proxy_read_timeout 10s;"]
  ] as const
  return changed.reduce((text, [from, to]) => {
    expect(text).toContain(from)
    return text.replace(from, to)
  }, block)
}

let front = 0
let back = 0
beforeAll(async () => {
  ;[front, back] = [await freePort(), await freePort()]
  const { cert, key } = selfSigned()
  writeFileSync(join(folder, "cert.pem"), cert)
  writeFileSync(join(folder, "key.pem"), key, { mode: 0o600 })
  mkdirSync(join(folder, "temporary"))
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
    (name) => `${name}_temp_path ${join(folder, "temporary", name)};`
  )
  writeFileSync(
    join(folder, "nginx.conf"),
    `daemon off;
pid ${join(folder, "nginx.pid")};
error_log ${join(folder, "error.log")} info;
events { worker_connections 64; }
http {
  access_log off;
  ${temporary.join("\n  ")}
${configuration(front, back)}
}
`
  )
})

const ends: Array<() => Promise<unknown>> = []
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end()
})

const startNginx = async (): Promise<ChildProcess> => {
  const child = spawn(
    nginx ?? "",
    ["-p", folder, "-c", join(folder, "nginx.conf"), "-e", join(folder, "error.log")],
    {
      stdio: "ignore"
    }
  )
  const exited = once(child, "exit")
  ends.push(() => {
    if (child.exitCode === null) child.kill("SIGTERM")
    return exited
  })
  await answers(front)
  return child
}

const started = (args: ReadonlyArray<string>, env: NodeJS.ProcessEnv = {}): Program => {
  const program = new Program(args, env)
  ends.push(() => {
    program.signal("SIGKILL")
    return program.exited
  })
  return program
}

const serve = async (): Promise<Program> => {
  const args = [
    "--port",
    String(back),
    "--db",
    join(folder, "arcp.db"),
    "--heartbeat-sec",
    "3",
    "--trust-proxy",
    "127.0.0.1"
  ]
  const server = started(["serve", "--agents", "conformance", "--token", "tok-a=alice", ...args])
  await listening(server)
  return server
}

const submit = (agent: string, input: unknown): Program => {
  const file = join(folder, `input-${agent}.json`)
  writeFileSync(file, JSON.stringify(input))
  return started(
    [
      "submit",
      agent,
      "--json",
      "--url",
      `wss://localhost:${front}/arcp`,
      "--token",
      "tok-a",
      "--input",
      `@${file}`
    ],
    {
      NODE_EXTRA_CA_CERTS: join(folder, "cert.pem"),
      XDG_CONFIG_HOME: folder,
      XDG_STATE_HOME: folder,
      NO_PROXY: "*"
    }
  )
}

/** What a program has printed, as soon as it has printed that. */
const printed = (program: Program, what: RegExp): Promise<void> =>
  new Promise((resolve, reject) => {
    const look = () => (what.test(program.stdout) ? resolve() : undefined)
    program.child.stdout?.on("data", look)
    look()
    void program.exited.then(() =>
      reject(new Error(`it has left:\n${program.stdout.slice(-2_000)}\n${program.stderr}`))
    )
  })

const values = (program: Program) =>
  program.stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>)

const patience = 60_000

it.skipIf(nginx === undefined)("the configuration of the page is accepted (where there is an nginx)", () => {
  expect(
    execFileSync(nginx ?? "", ["-t", "-p", folder, "-c", join(folder, "nginx.conf")], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"]
    })
  ).toBe("")
})

it.skipIf(nginx === undefined)(
  "lets frames through that are as large as may be, and silence that is longer than its timeout (where there is an nginx)",
  async () => {
    await serve()
    await startNginx()
    const text = "x".repeat(900_000)
    const large = submit("echo", { text })
    expect((await large.leaves(patience)).code, large.stderr).toBe(0)
    expect(JSON.stringify(values(large).at(-1))).toContain(text)

    const silent = submit("emit", { count: 1, startDelayMs: 13_000 })
    expect((await silent.leaves(patience)).code, silent.stderr).toBe(0)
    expect(silent.stderr).not.toMatch(/connect|lost/i)
    expect(readFileSync(join(folder, "error.log"), "utf8")).not.toMatch(/timed out|\[error\]/)
  }
)

it.skipIf(nginx === undefined)(
  "loses no event when it is restarted, nor a durable job when the server is killed (where there is an nginx)",
  async () => {
    const server = await serve()
    const proxy = await startNginx()
    const count = 4_000
    const emitting = submit("emit", { count, delayMs: 1 })
    await printed(emitting, /"message":"500\./)
    proxy.kill("SIGTERM")
    await once(proxy, "exit")
    await startNginx()
    expect((await emitting.leaves(patience)).code, emitting.stderr).toBe(0)
    const messages = [...emitting.stdout.matchAll(/"message":"(\d+)\./g)].map(([, n]) => Number(n))
    expect(messages).toEqual(Array.from({ length: count }, (_, i) => i))

    const napping = submit("nap", { ms: 5_000 })
    await printed(napping, /"state":"started"|nap|running/)
    server.signal("SIGKILL")
    await server.exited
    await serve()
    expect((await napping.leaves(patience)).code, napping.stderr).toBe(0)
  }
)
