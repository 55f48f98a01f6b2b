/** What is done in the console, in a real Chromium: nothing is done to what somebody has not seen, and whoever does something hears of it. */
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import type { Browser, Page, WebSocketRoute } from "playwright-core"
import { afterAll, assert, beforeAll, beforeEach, describe, it } from "vitest"
import { hearing } from "./hearing.js"
import { browser as browserOf, launch, start } from "./host.js"

const executable = browserOf(
  "ARCP_CHROMIUM",
  ["chromium", "chromium-browser", "google-chrome"],
  "what is done in the console"
)

/** Screenshots are written here, if set. */
const shots = process.env["ARCP_SCREENSHOTS"]
const agents = fileURLToPath(new URL("./agents/console.mjs", import.meta.url))

/** Presses what is at a point, at the moment at which the page has something that it had not, as somebody does who meant what was there. */
const pressWhen = (page: Page, selector: string, points: ReadonlyArray<{ x: number; y: number }>) =>
  page.evaluate(
    ([selector, points]) => {
      const count = () => document.querySelectorAll(selector).length
      const before = new Set(document.querySelectorAll(selector))
      const isNew = () => [...document.querySelectorAll(selector)].some((element) => !before.has(element))
      const watching = new MutationObserver(() => {
        if (count() === 0 || !isNew()) return
        watching.disconnect()
        for (const { x, y } of points) (document.elementFromPoint(x, y) as HTMLElement | null)?.click()
      })
      watching.observe(document, { subtree: true, childList: true })
    },
    [selector, points] as const
  )

const middle = async (page: Page, name: string, nth = 0) => {
  const box = await page.getByRole("button", { name, exact: true }).nth(nth).boundingBox()
  assert.ok(box !== null)
  return { x: box.x + box.width / 2, y: box.y + box.height / 2 }
}

describe.skipIf(executable === undefined)("what is done in the console (where there is a Chromium)", () => {
  let server: Awaited<ReturnType<typeof start>>
  let browser: Browser
  let page: Page
  let heard: Awaited<ReturnType<typeof hearing>>
  let home = ""

  beforeAll(async () => {
    server = await start("--agents", agents, "--memory", "--token", "secret=me", "--operator", "me")
    home = (JSON.parse(server.line) as { readonly console: string }).console.split("#")[0] ?? ""
    browser = await launch(executable as string)
  })
  afterAll(async () => {
    await browser?.close()
    server?.stop()
  })
  const login = async () => {
    const made = await browser.newPage()
    made.setDefaultTimeout(60_000)
    return made
  }
  const enter = async (made: Page) => {
    await made.goto(home)
    await made.fill("#token", "secret")
    await made.getByRole("button", { name: "Log in", exact: true }).click()
    await made.waitForSelector(".connection[data-state=Connected]")
    // Out of the list, which holds still for a pointer.
    await made.mouse.move(2, 2)
  }
  beforeEach(async () => {
    await page?.close()
    page = await login()
    heard = await hearing(page)
    await enter(page)
  })

  const headers = { authorization: "Bearer secret", "content-type": "application/json" }
  const post = async (agent: string, input: unknown, wait = 0) => {
    const answer = await fetch(new URL("/v1/jobs", home), {
      method: "POST",
      headers: wait === 0 ? headers : { ...headers, prefer: `wait=${wait}` },
      body: JSON.stringify({ agent, input })
    })
    return ((await answer.json()) as { readonly job_id: string }).job_id
  }
  const statusOf = async (jobId: string) =>
    (
      (await (await fetch(new URL(`/v1/jobs/${jobId}`, home), { headers })).json()) as {
        readonly status: string
      }
    ).status
  const shot = async (name: string) => {
    if (shots !== undefined)
      await page.screenshot({ path: join(shots, `actions-${name}.png`), fullPage: true })
  }
  const button = (name: string) => page.getByRole("button", { name, exact: true })
  const row = (jobId: string) => page.locator(".jobs tbody tr", { hasText: jobId })

  it("answers no question that has just come by a press that was meant for the one before", async () => {
    const jobId = await post("asks", { count: 2 })
    await page.goto(`${home}#/job/${jobId}`)
    await page.locator(".prompt", { hasText: "Question 1" }).waitFor()
    await pressWhen(page, ".question", [await middle(page, "yes")])
    await button("yes").click()
    await page.locator(".prompt", { hasText: "Question 2" }).waitFor()
    await heard.until(/press it again/)
    await shot("second-question")
    // It is there still, and takes a press that is meant for it.
    await page.locator(".question", { hasText: "Question 2" }).getByRole("button", { name: "no" }).click()
    await page.waitForSelector("h1 .badge[data-status=success]")
    await page.waitForFunction(() => /yes.*no/s.test(document.querySelector(".value")?.textContent ?? ""))
  })

  it("cancels no job that has just come to where another was, or was moved there", async () => {
    const below = await post("quiet", { ms: 3_600_000 })
    await row(below).waitFor()
    const above = await post("quiet", { ms: 3_600_000 })
    await row(above).waitFor()
    await page.waitForFunction(() => document.querySelectorAll("[aria-disabled=true]").length === 0)
    const points = [await middle(page, "Cancel"), await middle(page, "Cancel", 1)]
    await pressWhen(page, ".jobs tbody tr", points)
    const fresh = await post("quiet", { ms: 3_600_000 })
    await row(fresh).waitFor()
    await heard.until(/press it again/)
    for (const jobId of [below, above, fresh]) assert.strictEqual(await statusOf(jobId), "running")
    for (const jobId of [below, above, fresh]) {
      await row(jobId).getByRole("button", { name: "Cancel" }).click()
      await row(jobId).getByText("cancelled").waitFor()
    }
  })

  it("holds the list still while a pointer or the focus is in it, and says what is new", async () => {
    const above = await post("quiet", { ms: 3_600_000 })
    await row(above).getByRole("button", { name: "Cancel" }).hover()
    const place = await middle(page, "Cancel")
    const fresh = await post("quiet", { ms: 3_600_000 })
    await button("Show 1 new job").waitFor()
    await shot("still")
    assert.deepStrictEqual(await middle(page, "Cancel"), place)
    assert.strictEqual(await row(fresh).count(), 0)
    await page.waitForFunction(() => document.querySelectorAll("[aria-disabled=true]").length === 0)
    await page.mouse.down()
    await page.mouse.up()
    await row(above).getByText("cancelled").waitFor()
    assert.strictEqual(await statusOf(fresh), "running")
    await button("Show 1 new job").click()
    await row(fresh).waitFor()
    // The keyboard is in it as long as it has the focus there.
    await page.mouse.move(2, 700)
    await page.getByLabel("Submitted").focus()
    await page.keyboard.press("Tab")
    const another = await post("breaks", {})
    await button("Show 1 new job").waitFor()
    assert.strictEqual(await row(another).count(), 0)
    await page.keyboard.press("Shift+Tab")
    await row(another).waitFor()
    await row(fresh).getByRole("button", { name: "Cancel" }).click()
    await row(fresh).getByText("cancelled").waitFor()
  })

  it("says to whoever was too late that the answer was not taken", async () => {
    const jobId = await post("asks", { count: 1 })
    const late = await login()
    // What the server says is held back while the other tab answers.
    let isHeld = false
    const held: Array<() => void> = []
    await late.routeWebSocket(/arcp/, (ws: WebSocketRoute) => {
      const to = ws.connectToServer()
      to.onMessage((message) => {
        if (isHeld) held.push(() => ws.send(message))
        else ws.send(message)
      })
    })
    await enter(late)
    await late.goto(`${home}#/job/${jobId}`)
    await late.getByRole("button", { name: "no", exact: true }).waitFor()
    isHeld = true
    await page.goto(`${home}#/job/${jobId}`)
    await button("yes").click()
    await page.waitForSelector("h1 .badge[data-status=success]")
    await late.getByRole("button", { name: "no", exact: true }).click()
    await late.locator(".question button:disabled").first().waitFor()
    isHeld = false
    for (const pass of held) pass()
    await late.waitForSelector("h1 .badge[data-status=success]")
    const notice = late.getByRole("region", { name: "answer that was not taken" })
    await notice.getByText("Somebody was faster").waitFor()
    assert.match((await notice.textContent()) ?? "", /Your answer no was not taken.*Question 1/)
    if (shots !== undefined) await late.screenshot({ path: join(shots, "actions-late.png") })
    await notice.getByRole("button", { name: "Dismiss" }).click()
    await notice.waitFor({ state: "detached" })
    await late.close()
  })

  it("shows a job that is deleted no longer, also to whoever goes back to it", async () => {
    const jobId = await post("asks", { count: 0 }, 60)
    await page.goto(`${home}#/job/${jobId}`)
    await page.waitForSelector("#result-title")
    const gone = await fetch(new URL(`/v1/jobs/${jobId}`, home), { method: "DELETE", headers })
    assert.isTrue(gone.ok)
    await page.locator(".problem", { hasText: "no such job" }).waitFor()
    for (const what of ["#result-title", ".log", ".facts + .panel"])
      assert.strictEqual(await page.locator(what).count(), 0, what)
    await shot("deleted")
    await page.getByRole("navigation").getByRole("link", { name: "Jobs" }).click()
    await page.getByRole("heading", { level: 1, name: "Jobs" }).waitFor()
    assert.strictEqual(await row(jobId).count(), 0)
    await page.goBack()
    await page.locator(".problem", { hasText: "no such job" }).waitFor()
    assert.strictEqual(await page.locator("#result-title").count(), 0)
  })

  it("says that a job is still being read, and gives no part of it for the whole", async () => {
    const jobId = await post("many", { count: 200 }, 60)
    const slow = await login()
    const told = await hearing(slow)
    let left = 100
    const held: Array<() => void> = []
    await slow.routeWebSocket(/arcp/, (ws: WebSocketRoute) => {
      ws.connectToServer().onMessage((message) => {
        if (!String(message).includes(jobId) || /session\.jobs/.test(String(message)) || left-- > 0)
          ws.send(message)
        else held.push(() => ws.send(message))
      })
    })
    await enter(slow)
    await slow.goto(`${home}#/job/${jobId}`)
    await slow.locator(".facts", { hasText: /\d+ events so far/ }).waitFor()
    await slow.locator(".progress", { hasText: "Reading what it has said" }).waitFor()
    await slow.locator(".where", { hasText: "so far" }).waitFor()
    assert.isTrue(await slow.locator(".log").getByRole("button", { name: "download" }).isDisabled())
    await told.until(/still being read/)
    if (shots !== undefined) await slow.screenshot({ path: join(shots, "actions-reading.png") })
    left = Number.POSITIVE_INFINITY
    for (const pass of held) pass()
    await slow.waitForSelector("#result-title")
    assert.strictEqual(await slow.getByText("so far").count(), 0)
    assert.isTrue(await slow.locator(".log").getByRole("button", { name: "download" }).isEnabled())
    await told.until(/are all read/)
    await slow.close()
  })

  it("takes filters back one by one", async () => {
    await post("breaks", {}, 60)
    await page.goto(`${home}#/jobs`)
    await page.getByRole("button", { name: /^failed/ }).click()
    await page.getByLabel("Agent").selectOption("breaks")
    // The same again is no other place.
    await page.getByRole("navigation").getByRole("link", { name: "Jobs" }).click()
    await page.getByRole("navigation").getByRole("link", { name: "Jobs" }).click()
    for (const filters of ["?status=error&agent=breaks", "?status=error", ""]) {
      await page.goBack()
      await page.waitForURL(`${home}#/jobs${filters}`)
    }
    assert.strictEqual(
      await page.getByRole("button", { name: /^failed/ }).getAttribute("aria-pressed"),
      "false"
    )
  })

  it("fits a phone with long choices and long names", async () => {
    await page.setViewportSize({ width: 360, height: 740 })
    const sideways = () =>
      page.evaluate(() => {
        const wide = [...document.querySelectorAll("main *")].filter(
          (element) => element.scrollWidth > element.clientWidth + 1 && element.tagName === "BUTTON"
        )
        return [
          document.documentElement.scrollWidth - document.documentElement.clientWidth,
          ...wide.map((element) => element.textContent)
        ]
      })
    const jobId = await post(`wordy.${"long-name".repeat(23)}`, {})
    for (const [place, ready] of [
      [`job/${jobId}`, ".question button"],
      ["submit?agent=work", "#agent option"],
      [`submit?agent=wordy.${"long-name".repeat(23)}`, "#agent option"],
      ["jobs", ".jobs tbody tr"],
      ["runtime", ".gauges"]
    ] as const) {
      await page.goto(`${home}#/${place}`)
      await page.locator(ready).first().waitFor({ state: "attached" })
      await shot(`360-${place.split(/[/?]/)[0]}-${place.length}`)
      assert.deepStrictEqual(await sideways(), [0], place)
    }
  })
})
