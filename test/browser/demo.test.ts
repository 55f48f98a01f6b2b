/** The demo page in a real Chromium: a job outlives cut connections and reloads, and the page knows it. */
import { join } from "node:path"
import type { Browser, Page } from "playwright-core"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { browser as browserOf, files, launch, nasty, serve } from "./host.js"

const executable = browserOf(
  "ARCP_CHROMIUM",
  ["chromium", "chromium-browser", "google-chrome"],
  "the demo page in a browser"
)

/** Screenshots are written here, if set. */
const shots = process.env["ARCP_SCREENSHOTS"]

describe.skipIf(executable === undefined)("the demo page (where there is a Chromium)", () => {
  let server: Awaited<ReturnType<typeof serve>>
  let browser: Browser
  let origin = ""
  let root = ""

  beforeAll(async () => {
    server = await serve()
    origin = server.origin
    root = server.root
    browser = await launch(executable as string)
  })
  afterAll(async () => {
    await browser?.close()
    server?.stop()
  })

  /** A page with the session open; what it must never do is noted. */
  const open = async (scheme: "light" | "dark" = "light") => {
    const page = await browser.newPage({ colorScheme: scheme, viewport: { width: 1100, height: 900 } })
    // The server surveys while the browser draws, and both may have a fraction of a core.
    page.setDefaultTimeout(120_000)
    const wrong: Array<string> = []
    page.on("console", (message) => {
      if (message.type() === "error") wrong.push(`console: ${message.text()}`)
    })
    page.on("pageerror", (error) => wrong.push(`error: ${error.message}`))
    page.on("request", (request) => {
      const { host, protocol } = new URL(request.url())
      if (protocol !== "data:" && host !== new URL(origin).host) wrong.push(`request: ${request.url()}`)
    })
    await page.goto(`${origin}/demo#${new URLSearchParams({ token: "secret", root })}`)
    await page.waitForSelector("#lamp[data-state=on]")
    assert.strictEqual(page.url(), `${origin}/demo`, "the token is in the address bar")
    return { page, wrong }
  }
  const text = async (page: Page, id: string) => (await page.locator(`#${id}`).textContent()) ?? ""
  /** Until the job has got so far. */
  const progressed = (page: Page, files: number) =>
    page.waitForFunction((n) => (document.getElementById("progress") as HTMLProgressElement).value > n, files)
  const shot = async (page: Page, name: string) => {
    if (shots !== undefined) await page.screenshot({ path: join(shots, `${name}.png`), fullPage: true })
  }

  it("resumes behind a pulled plug, behind a time offline, and behind a reload, with nothing lost or twice", async () => {
    const { page, wrong } = await open()
    assert.strictEqual(await text(page, "agents"), "survey")
    await page.click("#start")
    await progressed(page, 100)
    await page.click("#pull")
    await page.waitForSelector("#log .good")
    assert.match(await text(page, "log"), /resumed after event \d+/)
    await shot(page, "running")
    await page.click("#offline")
    await page.waitForSelector("#lamp[data-state=away]")
    await shot(page, "offline")
    // As a browser says that a page is loaded anew in the middle of it.
    await page.reload()
    await page.waitForFunction(() => document.getElementById("verdict")?.textContent !== "", undefined, {
      timeout: 120_000
    })
    assert.match(await text(page, "log"), /the page was loaded anew/)
    assert.match(await text(page, "verdict"), /^Done: \d+ events, none missing, none twice$/)
    const [, first, last, count] =
      /events (\d+) to (\d+): (\d+), 0 missing/.exec(await text(page, "counted")) ?? []
    assert.strictEqual(Number(last) - Number(first) + 1, Number(count))
    assert.match(await text(page, "counted"), new RegExp(`^${files} of ${files} files`))
    assert.match(await text(page, "report"), /TypeScript/)
    assert.strictEqual((await page.locator("#report table").count()) > 0, true)
    assert.notMatch(await text(page, "report"), /---|^#|\| /m)
    // What a file is called is text, and no markup.
    assert.strictEqual(await page.locator("#report img").count(), 0)
    assert.include(await text(page, "report"), nasty)
    await shot(page, "done")
    await page.setViewportSize({ width: 375, height: 700 })
    const { scroll, wide } = await page.evaluate(() => ({
      scroll: document.documentElement.scrollWidth,
      wide: document.documentElement.clientWidth
    }))
    assert.isAtMost(scroll, wide)
    await shot(page, "narrow")
    assert.deepStrictEqual(wrong, [])
    await page.close()
  })

  it("cancels", async () => {
    const { page, wrong } = await open("dark")
    await page.click("#start")
    await progressed(page, 100)
    await page.click("#cancel")
    await page.waitForSelector("#verdict[data-state=bad]")
    assert.strictEqual(await text(page, "verdict"), "Cancelled")
    await shot(page, "cancelled-dark")
    assert.deepStrictEqual(wrong, [])
    await page.close()
  })

  it("leaves the job of a tab to it when the tab is duplicated, and says so", async () => {
    const { page, wrong } = await open()
    await page.click("#start")
    await progressed(page, 100)
    const opened = page.context().waitForEvent("page")
    await page.evaluate(() => void window.open(location.href))
    const copy = await opened
    await copy.waitForSelector("#lamp[data-state=on]")
    assert.match(await text(copy, "log"), /^\d\d:\d\d:\d\danother tab holds the session/)
    assert.strictEqual(await text(copy, "job"), "no job yet")
    assert.strictEqual(await text(copy, "verdict"), "")
    await copy.setViewportSize({ width: 1100, height: 900 })
    await shot(copy, "duplicated")
    await copy.setViewportSize({ width: 375, height: 700 })
    await shot(copy, "duplicated-narrow")
    // It has a job of its own, which it finds again.
    await copy.click("#start")
    await progressed(copy, 100)
    await copy.reload()
    for (const tab of [copy, page]) {
      await tab.waitForSelector("#verdict:not(:empty)", { timeout: 40_000 })
      assert.match(await text(tab, "verdict"), /^Done: \d+ events, none missing, none twice$/)
    }
    assert.match(await text(copy, "log"), /the page was loaded anew/)
    assert.notMatch(await text(page, "log"), /another tab|gone|anew/)
    assert.notStrictEqual(await text(copy, "job"), await text(page, "job"))
    assert.deepStrictEqual(wrong, [])
    await page.close()
  })

  it("says what is wrong with a token", async () => {
    const page = await browser.newPage()
    await page.goto(`${origin}/demo#token=wrong`)
    await page.waitForSelector("#lamp[data-state=failed]")
    assert.match(await text(page, "status"), /token/)
    await page.close()
  })

  it("is served with a policy, and can only be read", async () => {
    const response = await fetch(`${origin}/demo`)
    assert.match(response.headers.get("content-security-policy") ?? "", /^default-src 'none'/)
    assert.strictEqual((await fetch(`${origin}/demo`, { method: "POST" })).status, 405)
    assert.strictEqual((await fetch(`${origin}/demo`, { method: "HEAD" })).status, 200)
    assert.strictEqual((await fetch(`${origin}/demo/else`)).status, 404)
    assert.strictEqual((await fetch(`${origin}/arcp`)).status, 426)
  })
})
