/** Two tabs of one origin in a real Chromium, the second a duplicate of the first: each has a session of its own. */
import { fileURLToPath } from "node:url"
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core"
import { rolldown } from "rolldown"
import { afterAll, afterEach, assert, beforeAll, beforeEach, describe, it } from "vitest"
import { browser as browserOf, serve } from "./host.js"

const executable = browserOf(
  "ARCP_CHROMIUM",
  ["chromium", "chromium-browser", "google-chrome"],
  "duplicated tabs in a browser"
)

/** The script of a tab, in the place of the demo page's. */
const script = `
import { Arcp } from "/demo/client.js"
const seen = []
let held = 0
let session, job
const follow = async (made) => {
  job = made
  try {
    for await (const event of job.events)
      if (event.kind === "log") seen.push(Number.parseInt(event.body.message))
      else if (event.kind === "gap") seen.push(event.body.reason)
    seen.push("end")
  } catch (error) {
    seen.push(error.code)
  }
}
globalThis.tab = {
  connect: async () => {
    session = await Arcp.connect({
      url: location.origin.replace("http", "ws") + "/arcp",
      token: "secret",
      state: { storage: sessionStorage, onHeld: () => held++ }
    })
    const restored = session.restored.map(({ jobId }) => jobId)
    if (restored.length === 1) follow(await session.attach(restored[0]))
    return { id: session.resumeState.sessionId, restored, held }
  },
  start: async () => {
    follow(await session.submit("emit", { count: 90000, delayMs: 4, size: 8 }))
    return job.jobId
  },
  cancel: () => job.cancel(),
  state: () => ({ id: session.resumeState.sessionId, status: session.status.current._tag, held, seen })
}`

/** What a tab was told when it connected. */
interface Connected {
  readonly id: string
  /** Jobs that it found again. */
  readonly restored: ReadonlyArray<string>
  /** How often it was told that its session is held. */
  readonly held: number
}

interface State extends Pick<Connected, "id" | "held"> {
  readonly status: string
  /** Numbers of the events that its job has had, and what ended it. */
  readonly seen: ReadonlyArray<number | string>
}

/** What the script makes, in each tab. */
declare const tab: {
  readonly connect: () => Promise<Connected>
  /** Starts a job that would go on for minutes, and gives its id. */
  readonly start: () => Promise<string>
  readonly cancel: () => Promise<void>
  readonly state: () => State
}

/** The client for people who await promises, as a page has it. */
const bundle = async (): Promise<string> => {
  const made = await rolldown({
    input: fileURLToPath(new URL("../../dist/promise.js", import.meta.url)),
    platform: "browser"
  })
  const { output } = await made.generate({ format: "es" })
  await made.close()
  return output[0].code
}

describe.skipIf(executable === undefined)("a duplicated tab (where there is a Chromium)", () => {
  let server: Awaited<ReturnType<typeof serve>>
  let browser: Browser
  let context: BrowserContext
  let client = ""

  beforeAll(async () => {
    server = await serve("demo", "conformance")
    client = await bundle()
    browser = await chromium.launch({
      executablePath: executable as string,
      args: ["--no-sandbox", "--disable-dev-shm-usage"]
    })
  })
  afterAll(async () => {
    await browser?.close()
    server?.stop()
  })
  beforeEach(async () => {
    context = await browser.newContext()
    for (const [name, body] of Object.entries({ page: script, client }))
      await context.route(`**/demo/${name}.js`, (route) =>
        route.fulfill({ contentType: "text/javascript", body })
      )
  })
  afterEach(() => context.close())

  const loaded = async (page: Page) => {
    await page.waitForFunction(() => "tab" in globalThis)
    return page
  }
  const connect = (page: Page) => page.evaluate(() => tab.connect())
  const state = (page: Page) => page.evaluate(() => tab.state())
  const reconnect = async (page: Page) => {
    await page.reload()
    await loaded(page)
    return connect(page)
  }
  /** Until the job of a tab has got so far. */
  const seen = (page: Page, events: number) =>
    page.waitForFunction((n) => tab.state().seen.length >= n, events)

  const open = async () => {
    const page = await context.newPage()
    await page.goto(`${server.origin}/demo`)
    return loaded(page)
  }
  /** A tab with a session and a job. */
  const original = async () => {
    const page = await open()
    const { id } = await connect(page)
    const jobId = await page.evaluate(() => tab.start())
    await seen(page, 20)
    return { page, id, jobId }
  }
  /** As the browser copies what a tab keeps: into a window that it opens. */
  const duplicated = async (page: Page) => {
    const made = context.waitForEvent("page")
    await page.evaluate(() => void window.open(location.href))
    return loaded(await made)
  }
  /** As a browser restores a tab: in another process, with the items of one that may be gone. */
  const itemsOf = (page: Page) => page.evaluate(() => Object.entries(sessionStorage))
  const restored = async (items: ReadonlyArray<readonly [string, string]>) => {
    const page = await open()
    await page.evaluate((items) => {
      for (const [key, value] of items) sessionStorage.setItem(key, value)
    }, items)
    return page
  }
  /** The events of a job, each once and in order, to its end. */
  const assertWhole = (events: State["seen"]) => {
    const last = events.length - 1
    assert.deepStrictEqual(events.slice(0, last), [...Array(last).keys()])
  }

  it("leaves the first alone, says so, and keeps a session of its own through a reload", async () => {
    const first = await original()
    const copy = await duplicated(first.page)
    const second = await connect(copy)
    assert.strictEqual(second.held, 1)
    assert.deepStrictEqual(second.restored, [])
    assert.notStrictEqual(second.id, first.id)
    const before = (await state(first.page)).seen.length
    await seen(first.page, before + 20)
    // Both are there, and a reload of either is nobody else's affair.
    assert.deepStrictEqual(await reconnect(copy), { id: second.id, restored: [], held: 0 })
    await first.page.evaluate(() => tab.cancel())
    await first.page.waitForFunction(() => typeof tab.state().seen.at(-1) === "string")
    const { held, id, seen: events, status } = await state(first.page)
    assert.deepStrictEqual({ held, id, status }, { held: 0, id: first.id, status: "Connected" })
    assertWhole(events)
    assert.strictEqual(events.at(-1), "end")
    const again = await reconnect(first.page)
    assert.deepStrictEqual([again.id, again.held], [first.id, 0])
    await first.page.close()
    assert.deepStrictEqual(await reconnect(copy), { id: second.id, restored: [], held: 0 })
  })

  it("goes on with the session of a tab that was closed", async () => {
    const first = await original()
    const items = await itemsOf(first.page)
    await first.page.close()
    const next = await restored(items)
    assert.deepStrictEqual(await connect(next), { id: first.id, restored: [first.jobId], held: 0 })
    await seen(next, 20)
  })

  it("goes on with its own after the first has crashed, and a third with that of the first", async () => {
    const first = await original()
    const items = await itemsOf(first.page)
    const copy = await restored(items)
    const second = await connect(copy)
    assert.strictEqual(second.held, 1)
    const crashed = first.page.waitForEvent("crash")
    const devtools = await context.newCDPSession(first.page)
    void devtools.send("Page.crash").catch(() => {})
    await crashed
    assert.deepStrictEqual(await reconnect(copy), { id: second.id, restored: [], held: 0 })
    const third = await restored(items)
    assert.deepStrictEqual(await connect(third), { id: first.id, restored: [first.jobId], held: 0 })
  })
})
