/** The console's forms in a real Chromium: what is sent is what is seen, it is not lost, and nobody is taken away by it. */
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import type { Browser, Page, WebSocketRoute } from "playwright-core"
import { afterAll, assert, beforeAll, beforeEach, describe, it } from "vitest"
import { browser as browserOf, launch, start } from "./host.js"

const executable = browserOf(
  "ARCP_CHROMIUM",
  ["chromium", "chromium-browser", "google-chrome"],
  "the console's forms"
)

/** Screenshots are written here, if set. */
const shots = process.env["ARCP_SCREENSHOTS"]
const agents = fileURLToPath(new URL("./agents/console.mjs", import.meta.url))

describe.skipIf(executable === undefined)("the console's forms (where there is a Chromium)", () => {
  let server: Awaited<ReturnType<typeof start>>
  let browser: Browser
  let page: Page
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
  const enter = async () => {
    await page.goto(home)
    await page.fill("#token", "secret")
    await button("Log in").click()
    await page.waitForSelector(".connection[data-state=Connected]")
  }
  beforeEach(async () => {
    await page?.close()
    page = await browser.newPage({ viewport: { width: 1280, height: 900 } })
    page.setDefaultTimeout(60_000)
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
  const resultOf = async (jobId: string): Promise<unknown> =>
    (await fetch(new URL(`/v1/jobs/${jobId}/result`, home), { headers })).json()
  /** Shows the same to somebody with a wide screen, and on a phone. */
  const shot = async (name: string) => {
    if (shots === undefined) return
    for (const width of [1280, 360]) {
      await page.setViewportSize({ width, height: 900 })
      await page.screenshot({ path: join(shots, `forms-${name}-${width}.png`), fullPage: true })
    }
    await page.setViewportSize({ width: 1280, height: 900 })
  }
  const button = (name: string) => page.getByRole("button", { name, exact: true })
  const go = (view: string) => page.goto(`${home}#/${view}`)
  /** Waits until buttons that cannot be undone take a press. */
  const settled = () =>
    page.waitForFunction(() => document.querySelector("[data-settles][aria-disabled=true]") === null)
  const submitted = async () => {
    await button("Submit").click()
    await page.waitForURL(/#\/job\//)
    await page.waitForSelector("h1 .badge[data-status=success]")
    return resultOf(decodeURIComponent(/#\/job\/([^?]+)/.exec(page.url())?.[1] ?? ""))
  }
  /** Remembers whether something is ever seen, however short that is. */
  const watchFor = (selector: string, text: string) =>
    page.evaluate(
      ([selector, text]) => {
        const seen = () =>
          [...document.querySelectorAll(selector)].some((element) => element.textContent?.includes(text))
        const all = (window as unknown as { seen?: Set<string> }).seen ?? new Set()
        Object.assign(window, { seen: all })
        new MutationObserver(() => {
          if (seen()) all.add(text)
        }).observe(document, { subtree: true, childList: true, characterData: true })
      },
      [selector, text] as const
    )
  const wasSeen = (text: string) =>
    page.evaluate((text) => (window as unknown as { seen: Set<string> }).seen.has(text), text)

  it("send the items that are seen when others were taken out", async () => {
    await enter()
    const jobId = await post("pays", {})
    await go(`job/${jobId}`)
    const rows = page.getByRole("group", { name: "rows" })
    for (let i = 0; i < 3; i++) await button("add to rows").click()
    for (const [i, text] of ['{"pay":"EVIL Ltd","eur":9000}', "", '{"pay":"Alice","eur":10}'].entries())
      if (text !== "") await rows.locator("textarea").nth(i).fill(text)
    // An item that nothing was put in is none.
    await page.getByText("answer.rows[1] is missing").waitFor()
    await rows.getByRole("button", { name: "remove item 2" }).click()
    await rows.getByRole("button", { name: "remove item 1" }).click()
    const values = () =>
      rows.locator("textarea").evaluateAll((all) => all.map((one) => (one as HTMLTextAreaElement).value))
    assert.deepStrictEqual(await values(), ['{"pay":"Alice","eur":10}'])
    const to = page.getByRole("group", { name: "to", exact: true })
    for (let i = 0; i < 2; i++) await button("add to to").click()
    await to.locator("select").nth(0).selectOption("0")
    await to.getByRole("textbox", { name: "iban" }).fill("DE1")
    await to.locator("select").nth(1).selectOption("1")
    await to.getByRole("textbox", { name: "name" }).fill("Bob")
    await shot("lists")
    await to.getByRole("button", { name: "remove item 1" }).click()
    assert.deepStrictEqual(
      [await to.locator("select").inputValue(), await to.getByRole("textbox", { name: "name" }).inputValue()],
      ["1", "Bob"]
    )
    await settled()
    await button("Answer").click()
    await page.waitForSelector("h1 .badge[data-status=success]")
    assert.deepStrictEqual(await resultOf(jobId), {
      to: [{ name: "Bob" }],
      rows: [{ pay: "Alice", eur: 10 }]
    })
  })

  it("keep an answer that is half written while another event is looked at", async () => {
    await enter()
    await go(`job/${await post("pays", {})}`)
    await button("add to to").click()
    const to = page.getByRole("group", { name: "to", exact: true })
    await to.locator("select").selectOption("1")
    await to.getByRole("textbox", { name: "name" }).fill("Bob")
    await page.getByLabel("event", { exact: true }).press("Home")
    await page.locator(".question").waitFor({ state: "detached" })
    await page.getByLabel("event", { exact: true }).press("End")
    assert.strictEqual(await to.getByRole("textbox", { name: "name" }).inputValue(), "Bob")
  })

  it("take what a union's later variants take, and no number but the one that was written", async () => {
    await enter()
    await go("submit?agent=bands")
    const form = page.locator("form.panel")
    const lacks = form.locator("[role=status]")
    await form.getByLabel("first name").fill("Ada")
    assert.match((await form.getByLabel("first name").getAttribute("aria-describedby")) ?? "", /^\S+$/)
    const id = form.getByLabel("id", { exact: true })
    await id.fill("9007199254740993")
    // Nothing is chosen for anybody.
    await lacks.getByText("input.percent is missing").waitFor()
    await form.getByLabel("percent").first().selectOption({ index: 2 })
    const percent = form.locator("input[type=number]").first()
    await percent.fill("7")
    await lacks.getByText("input.percent is at most 5, or input.percent is at least 10").waitFor()
    await percent.fill("15")
    await lacks.getByText("input.sure is missing").waitFor()
    await form.getByLabel("sure").selectOption({ label: "null" })
    await lacks.getByText("input.id would be sent as 9007199254740992").waitFor()
    await shot("numbers")
    await id.fill("5")
    // A wheel scrolls.
    await id.hover()
    await page.mouse.wheel(0, 300)
    await page.waitForFunction(() => document.activeElement?.tagName !== "INPUT")
    assert.deepStrictEqual(await submitted(), { percent: 15, sure: null, "first name": "Ada", id: 5 })
  })

  it("keep the lines of a text, and tell what they send and do not show", async () => {
    await enter()
    const jobId = await post("more", { text: "one\ntwo", b: 5, hidden: { c: [1] } }, 60)
    await go(`submit?agent=more&again=${jobId}`)
    const text = page.getByLabel("text", { exact: true })
    await page.getByText("2 more members (input.b, input.hidden)").waitFor()
    assert.strictEqual(await text.inputValue(), "one\ntwo")
    await text.press("ControlOrMeta+End")
    await text.press("!")
    await shot("again")
    await button("as JSON").click()
    await page.getByText("more members").waitFor({ state: "detached" })
    await button("as JSON").click()
    assert.deepStrictEqual(await submitted(), { text: "one\ntwo!", b: 5, hidden: { c: [1] } })
  })

  it("say that a submit is under way, and take nobody from where they have gone", async () => {
    const held: Array<() => void> = []
    let isHeld = true
    await page.routeWebSocket(/arcp/, (ws: WebSocketRoute) => {
      ws.connectToServer().onMessage((message) => {
        if (isHeld && /"job\.accepted"/.test(String(message))) held.push(() => ws.send(message))
        else ws.send(message)
      })
    })
    await enter()
    await go("submit?agent=breaks")
    await page.getByLabel("Input", { exact: true }).last().fill("1")
    await button("Submit").click()
    await button("sending …").waitFor()
    assert.isTrue(await button("sending …").isDisabled())
    await page.getByRole("navigation").getByRole("link", { name: "Runtime" }).click()
    await page.getByRole("heading", { level: 1, name: "Runtime" }).waitFor()
    isHeld = false
    for (const pass of held) pass()
    const outcome = page.locator(".outcome", { hasText: /breaks@1\.0\.0 is accepted/ })
    await outcome.waitFor()
    assert.match(page.url(), /#\/runtime$/)
    await shot("accepted")
    await outcome.getByRole("link").click()
    await page.waitForURL(/#\/job\//)
    await outcome.getByRole("button", { name: "Dismiss" }).click()
    await outcome.waitFor({ state: "detached" })
  })

  it("say why a job is not cancelled to whoever has gone elsewhere", async () => {
    const jobId = await post("quiet", { ms: 3_600_000 })
    let release = () => {}
    await page.routeWebSocket(/arcp/, (ws: WebSocketRoute) => {
      const upstream = ws.connectToServer()
      ws.onMessage((message) => {
        const text = String(message)
        if (!/"job\.cancel"/.test(text)) return upstream.send(message)
        release = () => upstream.send(text.replaceAll(jobId, `${jobId.slice(0, -1)}_`))
      })
    })
    await enter()
    await go(`job/${jobId}`)
    await page.waitForSelector("h1 .badge[data-status=running]")
    await settled()
    await button("Cancel").click()
    await button("cancelling …").waitFor()
    await page.getByRole("navigation").getByRole("link", { name: "Runtime" }).click()
    await page.getByRole("heading", { level: 1, name: "Runtime" }).waitFor()
    release()
    const outcome = page.locator(".outcome", { hasText: "is not cancelled" })
    await outcome.waitFor()
    await shot("not-cancelled")
    await outcome.getByRole("link").click()
    await button("Cancel").waitFor()
  })

  it("look for new agents without having lost the connection", async () => {
    await enter()
    await go("submit?agent=breaks")
    const input = page.getByLabel("Input", { exact: true }).last()
    await input.fill("1")
    const again = page.waitForEvent("websocket")
    await button("look for new agents").click()
    await again
    await page.waitForSelector(".connection[data-state=Connected]")
    assert.strictEqual(await input.inputValue(), "1")
    await page.getByRole("navigation").getByRole("link", { name: "Runtime" }).click()
    await page.getByText("never lost").waitFor()
  })

  it("say of a cancel that it is under way, on the page of the job and in the list", async () => {
    await enter()
    for (const where of ["job", "list"]) {
      const jobId = await post("slow", {})
      await go(where === "job" ? `job/${jobId}` : "jobs")
      const place =
        where === "job" ? page.locator(".title") : page.locator(".jobs tbody tr", { hasText: jobId })
      await place.locator("[data-status=running]").waitFor()
      await settled()
      await watchFor("[data-settles]:disabled", "cancelling …")
      await place.getByRole("button", { name: "Cancel" }).click()
      if (where === "job") await shot("cancelling")
      await place.locator("[data-status=cancelled]").waitFor()
      assert.isTrue(await wasSeen("cancelling …"), where)
      await page.reload()
    }
  })

  it("have no job submitted again that is being deleted", async () => {
    await enter()
    const jobId = await post("quiet", { ms: 3_600_000 })
    await go(`job/${jobId}`)
    await page.waitForSelector("h1 .badge[data-status=running]")
    await watchFor(".problem", "It is being deleted.")
    await watchFor(".title:has([data-status=cancelled])", "Submit again")
    const gone = await fetch(new URL(`/v1/jobs/${jobId}?cancel=true`, home), { method: "DELETE", headers })
    assert.isTrue(gone.ok)
    await page.locator(".problem", { hasText: "no such job" }).waitFor()
    assert.isTrue(await wasSeen("It is being deleted."))
    assert.isFalse(await wasSeen("Submit again"))
  })
})
