/** What tests in browsers share: which browser there is, and `arcp serve` with the demo page and a tree to survey. */
import { execFileSync, spawn } from "node:child_process"
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { type Browser, chromium } from "playwright-core"

const program = fileURLToPath(new URL("../../dist/programs/arcp.js", import.meta.url))

const inPath = (name: string): string | undefined => {
  try {
    return execFileSync("sh", ["-c", `command -v ${name}`], { encoding: "utf8" }).trim()
  } catch {
    return undefined
  }
}

/** Returns the browser that the environment names, or else one that is in PATH; says so when there is none. */
export const browser = (variable: string, names: ReadonlyArray<string>, what: string): string | undefined => {
  const executable = process.env[variable] ?? names.map(inPath).find(Boolean)
  if (executable !== undefined && existsSync(executable)) return executable
  console.log(`skipped: ${what}; there is no ${names[0]} in PATH, and ${variable} names none`)
  return undefined
}

/**
 * Starts Chromium. All pages have one process: each new one takes more than a second of a core, and a page that goes to another
 * origin, or to `about:blank` and back, would have one every time.
 */
export const launch = (executablePath: string): Promise<Browser> =>
  chromium.launch({
    executablePath,
    args: [
      // Containers have neither the privileges of its sandbox nor a large /dev/shm; the page is ours.
      "--no-sandbox",
      "--disable-dev-shm-usage",
      "--renderer-process-limit=1",
      "--disable-site-isolation-trials",
      "--disable-features=SpareRendererForSitePerProcess,IsolateOrigins,site-per-process"
    ]
  })

/** A file that would be markup, or another cell. */
export const nasty = "<img src=x onerror=alert(1)> & a|b *c*.ts"

/** Files in the tree. */
export const files = 1_501

/** Starts `arcp serve` on any free port; gives the line that it says where it is with. */
export const start = async (...flags: ReadonlyArray<string>) => {
  const server = spawn(process.execPath, [program, "serve", "--port", "0", "--json", ...flags], {
    stdio: ["ignore", "pipe", "ignore"]
  })
  const line = await new Promise<string>((resolve, reject) => {
    createInterface({ input: server.stdout }).once("line", resolve)
    server.once("exit", (code) => reject(new Error(`arcp serve left with ${code}`)))
  })
  return { line, stop: () => void server.kill() }
}

/** Starts a server of these agents (`demo`), and makes a tree that takes a while to survey. */
export const serve = async (...agents: ReadonlyArray<"demo" | "conformance">) => {
  const folder = mkdtempSync(join(tmpdir(), "arcp-demo-"))
  const root = join(folder, "tree")
  for (let i = 0; i < 15; i++) {
    mkdirSync(join(root, `d${i}`), { recursive: true })
    for (let k = 0; k < 100; k++) writeFileSync(join(root, `d${i}`, `f${k}.ts`), "const a = 1\n".repeat(400))
  }
  writeFileSync(join(root, nasty), "a larger file than the others\n".repeat(1000))
  const { line, stop } = await start(
    ...agents.flatMap((name) => ["--agents", name]),
    "--memory",
    "--token",
    "secret=me"
  )
  const { listening } = JSON.parse(line) as { readonly listening: string }
  return {
    origin: listening.replace(/^ws/, "http").replace(/\/arcp$/, ""),
    root,
    stop: () => {
      stop()
      rmSync(folder, { recursive: true, force: true })
    }
  }
}
