/** Drives a page by WebDriver BiDi, which Firefox speaks by itself: no driver, and any version of it. */
import { spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { WebSocket } from "ws"

/** What a command is answered with; of what the browser tells by itself, nothing is asked for. */
interface Answer {
  readonly type: "success" | "error"
  readonly id: number
  readonly result: unknown
  readonly message?: string
}

interface Evaluated {
  readonly type: "success" | "exception"
  readonly result?: { readonly value?: unknown }
  readonly exceptionDetails?: { readonly text: string }
}

/** The one page of a browser. */
export interface Page {
  readonly goto: (url: string) => Promise<void>
  readonly reload: () => Promise<void>
  /** Returns what an expression is in the page: text, a number or a boolean. A promise is waited for. */
  readonly evaluate: (expression: string) => Promise<unknown>
  /** Waits until an expression is true in the page. */
  readonly until: (expression: string) => Promise<void>
  readonly close: () => Promise<void>
}

const connected = async (address: string) => {
  const socket = new WebSocket(address, { perMessageDeflate: false })
  const waiting = new Map<number, { resolve: (result: unknown) => void; reject: (error: Error) => void }>()
  socket.on("message", (data) => {
    const { id, message, result, type } = JSON.parse(String(data)) as Answer
    if (type === "success") waiting.get(id)?.resolve(result)
    else if (type === "error") waiting.get(id)?.reject(new Error(message))
    waiting.delete(id)
  })
  socket.on("close", () => {
    for (const { reject } of waiting.values()) reject(new Error("the browser has gone"))
  })
  await new Promise((resolve, reject) => {
    socket.once("open", resolve)
    socket.once("error", reject)
  })
  let last = 0
  return (method: string, params: object): Promise<unknown> =>
    new Promise((resolve, reject) => {
      waiting.set(++last, { resolve, reject })
      socket.send(JSON.stringify({ id: last, method, params }))
    })
}

/** Starts a browser with a profile of its own. */
export const launch = async (executable: string): Promise<Page> => {
  const profile = mkdtempSync(join(tmpdir(), "arcp-firefox-"))
  const child = spawn(
    executable,
    ["--headless", "--no-remote", "--remote-debugging-port", "0", "--profile", profile],
    { stdio: ["ignore", "ignore", "pipe"], env: { ...process.env, HOME: profile } }
  )
  const gone = new Promise<void>((resolve) => child.once("close", () => resolve()))
  const address = await new Promise<string>((resolve, reject) => {
    let said = ""
    createInterface({ input: child.stderr }).on("line", (line) => {
      said += `${line}\n`
      const [, address] = /WebDriver BiDi listening on (ws:\S+)/.exec(line) ?? []
      if (address !== undefined) resolve(address)
    })
    child.once("error", reject)
    child.once("close", (code) => reject(new Error(`${executable} left with ${code}\n${said}`)))
  })
  const send = await connected(`${address}/session`)
  await send("session.new", { capabilities: {} })
  const { contexts } = (await send("browsingContext.getTree", {})) as {
    readonly contexts: ReadonlyArray<{ readonly context: string }>
  }
  const context = contexts[0]?.context
  const evaluate = async (expression: string) => {
    const evaluated = (await send("script.evaluate", {
      expression,
      target: { context },
      awaitPromise: true
    })) as Evaluated
    if (evaluated.type === "exception") throw new Error(evaluated.exceptionDetails?.text)
    return evaluated.result?.value
  }
  return {
    goto: async (url) => {
      await send("browsingContext.navigate", { context, url, wait: "complete" })
    },
    reload: async () => {
      await send("browsingContext.reload", { context, wait: "complete" })
    },
    evaluate,
    until: async (expression) => {
      await evaluate(
        `new Promise((done) => { const look = () => (${expression}) ? done() : setTimeout(look, 20); look() })`
      )
    },
    close: async () => {
      await send("browser.close", {}).catch(() => child.kill())
      await gone
      rmSync(profile, { recursive: true, force: true })
    }
  }
}
