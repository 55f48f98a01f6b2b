/** The console in a real Chromium: each view, by mouse and by keyboard, wide and narrow, and with agents that mean it ill. */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import type { Browser, Page } from "playwright-core"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { barriers } from "./accessible.js"
import { hearing } from "./hearing.js"
import { browser as browserOf, launch, start } from "./host.js"
import { belowPrefix } from "./prefixed.js"
import { astray } from "./walking.js"

const executable = browserOf(
  "ARCP_CHROMIUM",
  ["chromium", "chromium-browser", "google-chrome"],
  "the console in a browser"
)

/** Screenshots are written here, if set. */
const shots = process.env["ARCP_SCREENSHOTS"]
const agents = fileURLToPath(new URL("./agents/console.mjs", import.meta.url))

interface Said {
  readonly listening: string
  readonly token: string
  readonly console: string
}

describe.skipIf(executable === undefined)("the console (where there is a Chromium)", () => {
  let server: Awaited<ReturnType<typeof start>>
  let browser: Browser
  let said: Said

  beforeAll(async () => {
    server = await start("--agents", agents, "--memory")
    said = JSON.parse(server.line) as Said
    browser = await launch(executable as string)
  })
  afterAll(async () => {
    await browser?.close()
    server?.stop()
  })

  const home = () => said.console.split("#")[0] ?? ""

  /** Logs a page in by hand. */
  const login = async (page: Page, token = said.token, at = home()) => {
    await page.goto(at)
    await page.fill("#token", token)
    await page.getByRole("button", { name: "Log in", exact: true }).click()
    await page.waitForSelector(".connection[data-state=Connected]")
  }

  const listened = async (page: Page) => {
    page.setDefaultTimeout(30_000)
    const heard = await hearing(page)
    const wrong: Array<string> = []
    page.on("console", (message) => {
      // That a runtime has no metrics is no mistake of the page's.
      if (message.type() === "error" && !message.location().url.endsWith("/metrics"))
        wrong.push(`console: ${message.text()}`)
    })
    page.on("pageerror", (error) => wrong.push(`error: ${error.message}`))
    page.on("dialog", (dialog) => {
      wrong.push(`dialog: ${dialog.message()}`)
      void dialog.dismiss()
    })
    page.on("request", (request) => {
      const { host, protocol } = new URL(request.url())
      if (protocol !== "data:" && protocol !== "blob:" && host !== new URL(said.console).host)
        wrong.push(`request: ${request.url()}`)
    })
    return { page, wrong, heard }
  }
  let one: ReturnType<typeof listened> | undefined
  /**
   * The page that is logged in, begun anew at a place; what it must never do is noted. One for all tests: a tab, the process of
   * which compiles the console for the first time, costs four seconds of a core, and to load it again half of one.
   */
  const open = async (
    place = "#/jobs",
    {
      height = 900,
      scheme = "light",
      width = 1280
    }: { width?: number; height?: number; scheme?: "light" | "dark" } = {}
  ) => {
    one ??= browser.newPage().then(listened)
    const opened = await one
    const { page, wrong } = opened
    await page.unrouteAll()
    await page.setViewportSize({ width, height })
    await page.emulateMedia({ colorScheme: scheme })
    // What the test before has left undone is none of this one's.
    await page.goto("about:blank")
    wrong.length = 0
    await page.goto(`${home()}${place}`)
    await page.waitForSelector(".connection[data-state=Connected], #token")
    if ((await page.locator("#token").count()) > 0) {
      await login(page)
      await page.goto(`${home()}${place}`)
    }
    return opened
  }
  let other: Promise<Page> | undefined
  /** Another tab, as of somebody who has not been here. */
  const stranger = async () => {
    other ??= browser.newPage()
    const page = await other
    page.setDefaultTimeout(30_000)
    await page.goto(new URL("/healthz", home()).href)
    await page.evaluate(() => sessionStorage.clear())
    await page.goto("about:blank")
    return page
  }
  const shot = async (page: Page, name: string) => {
    if (shots !== undefined)
      await page.screenshot({ path: join(shots, `console-${name}.png`), fullPage: true })
  }
  /** Submits by the form, with the input as JSON, and gives the id of the job. */
  const submit = async (
    page: Page,
    agent: string,
    input: unknown,
    lease: Readonly<Record<string, string>> = {}
  ) => {
    await page.goto(`${home()}#/submit?agent=${agent}`)
    await page
      .locator("#agent option", { hasText: `${agent}@` })
      .first()
      .waitFor({ state: "attached" })
    const asJson = page.getByRole("button", { name: "as JSON" })
    if ((await asJson.count()) > 0) await asJson.click()
    await page.getByLabel("Input", { exact: true }).last().fill(JSON.stringify(input))
    for (const [capability, patterns] of Object.entries(lease)) {
      await page.getByRole("button", { name: "allow something" }).click()
      await page.getByLabel("capability").last().selectOption(capability)
      await page.getByLabel(`${capability}: patterns, one a line`).fill(patterns)
    }
    await page.getByRole("button", { name: "Submit", exact: true }).click()
    await page.waitForURL(/#\/job\//)
    return decodeURIComponent(/#\/job\/([^?]+)/.exec(page.url())?.[1] ?? "")
  }
  /** Submits beside the page, and waits for the end where that is asked for. */
  const post = async (agent: string, input: unknown, wait = 0, lease_request?: unknown) => {
    const answer = await fetch(new URL("/v1/jobs", home()), {
      method: "POST",
      headers: {
        authorization: `Bearer ${said.token}`,
        "content-type": "application/json",
        ...(wait === 0 ? {} : { prefer: `wait=${wait}` })
      },
      body: JSON.stringify({ agent, input, lease_request })
    })
    return ((await answer.json()) as { readonly job_id: string }).job_id
  }
  const work = { topic: "lakes", depth: 2, mode: "quick" }
  /** A job that has done a bit of everything, for whoever only looks at one. */
  let done: Promise<string> | undefined
  const aJob = () => {
    done ??= post("work", work, 60, {
      ...{ "fs.read": ["/src/**"], "agent.delegate": ["*"], "cost.budget": ["USD:2.00"] }
    })
    return done
  }
  const lease = { "fs.read": "/src/**", "agent.delegate": "*", "cost.budget": "USD:2.00" }
  const ended = (page: Page, status: string) => page.waitForSelector(`h1 .badge[data-status=${status}]`)
  const sideways = (page: Page) =>
    page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)

  it("is opened once by its link, and otherwise by the token, which no address keeps", async () => {
    const page = await stranger()
    await page.goto(said.console)
    await page.waitForSelector(".connection[data-state=Connected]")
    assert.strictEqual(page.url(), `${home()}#/jobs`)
    await page.reload()
    await page.waitForSelector(".connection[data-state=Connected]")
    const other = await stranger()
    await other.goto(said.console)
    await other.waitForSelector(".problem")
    assert.match((await other.textContent(".problem")) ?? "", /was used/)
    await shot(other, "login")
    assert.strictEqual(await other.title(), "Log in · arcp console")
    await other.fill("#token", "wrong")
    await other.getByRole("button", { name: "Log in" }).click()
    await other.waitForFunction(() => /token/.test(document.querySelector(".problem")?.textContent ?? ""))
    await other.fill("#token", said.token)
    await other.getByRole("button", { name: "Log in" }).click()
    await other.waitForSelector(".connection[data-state=Connected]")
    assert.strictEqual(await other.title(), "Jobs · arcp console")
    await other.getByRole("button", { name: "Log out" }).click()
    await other.waitForSelector("#token")
    await other.reload()
    await other.waitForSelector("#token")
  })

  it("asks before a link logs it in, and stays who it was", async () => {
    const page = await stranger()
    const question = page.getByRole("alertdialog", { name: "A link wants to log this tab in" })
    const kept = () => page.evaluate(() => sessionStorage.getItem("arcp-console-token"))
    await page.goto(`${home()}#token=${said.token}`)
    await question.waitFor()
    assert.strictEqual(page.url(), `${home()}#/jobs`)
    assert.strictEqual(await kept(), null)
    assert.strictEqual(await page.evaluate(() => document.activeElement?.textContent), "Do not use it")
    // As whom, before anything is done with it.
    await question.getByText("It is that of local.").waitFor()
    await page.keyboard.press("Escape")
    await question.waitFor({ state: "detached" })
    assert.strictEqual(await kept(), null)
    await page.goto("about:blank")
    await page.goto(`${home()}#token=${said.token}`)
    await question.getByRole("button", { name: "Log in with it" }).click()
    await page.waitForSelector(".connection[data-state=Connected]")
    await page.locator(".who", { hasText: "logged in as local" }).waitFor()
    // Whoever is logged in is asked, whatever the link brings, and also when the page is not loaded again.
    for (const link of ["#token=another", said.console.replace(/^[^#]*/, ""), "#code=nope"])
      for (const fresh of [true, false]) {
        if (fresh) await page.goto("about:blank")
        await page.goto(`${home()}${link}`)
        await question.getByText("You are logged in as local, and stay so").waitFor()
        await page.waitForSelector(".connection[data-state=Connected]")
        assert.strictEqual(page.url(), `${home()}#/jobs`)
        assert.strictEqual(await kept(), said.token)
        if (link === "#code=nope") {
          await question.getByRole("button", { name: "Log in with it instead" }).click()
          await question.getByRole("alert").waitFor()
          assert.strictEqual(await kept(), said.token)
        }
        await question.getByRole("button", { name: "Stay as I am" }).click()
        await question.waitFor({ state: "detached" })
      }
    await page.goto(`${home()}#token=another`)
    await question.getByRole("button", { name: "Log in with it instead" }).click()
    // That one is no good: the page is begun anew with it, and nothing of who was here is left.
    await page.waitForSelector("#token")
    assert.deepStrictEqual(await page.evaluate(() => Object.keys(sessionStorage)), [])
  })

  it("works below a prefix that a proxy takes away, with its link, its metrics and its sessions", async () => {
    const prefixed = await belowPrefix("/team/agents", new URL(said.listening.replace(/^ws/, "http")).port)
    const own = await start("--agents", agents, "--memory")
    const other = await belowPrefix("/a", new URL((JSON.parse(own.line) as Said).listening).port)
    try {
      for (const path of ["/console", "/console/"]) {
        const page = await stranger()
        await login(page, said.token, `${prefixed.origin}/team/agents${path}`)
        await page.goto(`${prefixed.origin}/team/agents${path}#/runtime`)
        await page.getByText(`${prefixed.origin.replace(/^http/, "ws")}/team/agents/arcp`).waitFor()
        await page.getByRole("table", { name: "who is connected" }).waitFor()
        await page.evaluate(() => sessionStorage.clear())
      }
      const page = await stranger()
      const { hash } = new URL((JSON.parse(own.line) as Said).console)
      await page.goto(`${other.origin}/a/console${hash}`)
      await page.waitForSelector(".connection[data-state=Connected]")
      assert.strictEqual(page.url(), `${other.origin}/a/console#/jobs`)
    } finally {
      own.stop()
      await Promise.all([prefixed.stop(), other.stop()])
    }
  })

  it("is served with a policy that lets nothing in, and can only be read", async () => {
    const response = await fetch(home())
    const policy = response.headers.get("content-security-policy") ?? ""
    assert.match(policy, /^default-src 'none'/)
    assert.notMatch(policy, /unsafe/)
    assert.strictEqual((await fetch(home(), { method: "POST" })).status, 405)
    assert.strictEqual((await fetch(`${home()}/else`)).status, 404)
    const login = (body: string, type = "application/json") =>
      fetch(`${home()}/login`, { method: "POST", headers: { "content-type": type }, body })
    assert.strictEqual((await login(JSON.stringify({ code: "no" }))).status, 403)
    assert.strictEqual((await login("{")).status, 400)
    assert.strictEqual((await login(JSON.stringify({ code: "no" }), "text/plain")).status, 400)
    // One that is too large may be cut off.
    const large = await login(JSON.stringify({ code: "x".repeat(100_000) })).catch(() => undefined)
    assert.isAtLeast(large?.status ?? 400, 400)
  })

  it("submits by a form of the agent's schema, and shows what came of it", async () => {
    const { page, wrong } = await open("#/submit?agent=work")
    await page.getByLabel("topic").fill("rivers")
    await page.getByLabel("depth").fill("2")
    assert.deepStrictEqual(await page.getByLabel("mode").locator("option").allTextContents(), [
      "–",
      "quick",
      "thorough"
    ])
    await page.getByText("input.mode is missing").waitFor()
    await page.getByLabel("mode").selectOption("quick")
    await page.getByRole("button", { name: "give a budget" }).click()
    await page.getByLabel("cost.budget: patterns, one a line").fill("USD:2.00")
    await shot(page, "submit")
    await page.getByRole("button", { name: "Submit", exact: true }).click()
    await ended(page, "success")
    await page.waitForSelector("#result-title")
    assert.match((await page.textContent("main")) ?? "", /may spend up to 2\.00 USD/)
    assert.deepStrictEqual(
      await page
        .locator(".markdown a")
        .evaluateAll((links) => links.map((a) => [a.getAttribute("href"), a.getAttribute("rel")])),
      [["https://example.com/third", "noopener noreferrer nofollow"]]
    )
    // The same again has the same lease, and what it was given.
    await page.getByRole("link", { name: "Submit again" }).click()
    await page.waitForFunction(() => document.querySelector("textarea[aria-label^='cost.budget']") !== null)
    assert.strictEqual(await page.getByLabel("cost.budget: patterns, one a line").inputValue(), "USD:2.00")
    assert.strictEqual(await page.getByLabel("topic").inputValue(), "rivers")
    assert.deepStrictEqual(wrong, [])
  })

  it("sends and copies what is in its boxes, or nothing", async () => {
    const { page, wrong } = await open("#/submit?agent=breaks")
    const buttons = ["Submit", "copy as command", "copy as code"]
    const able = () =>
      Promise.all(buttons.map((name) => page.getByRole("button", { name, exact: true }).isEnabled()))
    const all = async (isAble: boolean, what: string) =>
      assert.deepStrictEqual(await able(), [isAble, isAble, isAble], what)
    const input = page.getByLabel("Input", { exact: true }).last()
    await input.fill("hello world")
    await page.getByText("input is no JSON").waitFor()
    await all(false, "no JSON")
    await shot(page, "no-json")
    await input.fill('"hello world"')
    await all(true, "JSON")
    // A value that was there before is not sent in place of what is there now.
    await page.goto(`${home()}#/submit?agent=work`)
    await page.getByRole("button", { name: "as JSON" }).click()
    await input.fill(JSON.stringify(work))
    await all(true, "a value")
    await input.fill("{")
    await page.getByText("input is no JSON").waitFor()
    await all(false, "no value")
    assert.isFalse(await page.getByRole("button", { name: "as JSON" }).isEnabled())
    await input.fill(JSON.stringify({ ...work, mode: "slow" }))
    await page.getByRole("button", { name: "as JSON" }).click()
    await page.getByText("input.mode is none of its choices").waitFor()
    await page.getByLabel("mode").selectOption("quick")
    await all(true, "a form")
    // What is in a box for numbers, and is none, is not the same as nothing.
    const pauseMs = page.getByLabel("pauseMs")
    await pauseMs.pressSequentially("1e")
    await page.getByText("input.pauseMs needs a number").waitFor()
    await all(false, "no number")
    await pauseMs.pressSequentially("2")
    await all(true, "a number")
    await page.getByRole("button", { name: "give a budget" }).click()
    const budget = page.getByLabel("cost.budget: patterns, one a line")
    await budget.fill("5 dollars")
    await page.getByText('the lease: cost.budget entries must look like "USD:5.00"').waitFor()
    await all(false, "no budget")
    await budget.fill("USD:5.00")
    await page.getByRole("button", { name: "allow something" }).click()
    const read = page.getByLabel("fs.read: patterns, one a line")
    await read.fill("src/**")
    await page.getByText(/^the lease: fs\.read "src\/\*\*" can match nothing/).waitFor()
    await all(false, "no path")
    await read.fill("/src/**")
    await all(true, "a lease")
    await page.getByText("More", { exact: true }).click()
    await page.getByLabel("It may run for").fill("soon")
    await page.getByText("it may run for 1 to 86400 seconds").waitFor()
    await all(false, "no time")
    await page.getByLabel("It may run for").fill("60")
    await all(true, "a time")
    await shot(page, "submit-lease")
    // On a phone there is room for a pattern.
    await page.setViewportSize({ width: 360, height: 740 })
    assert.isAbove((await read.boundingBox())?.width ?? 0, 180)
    assert.isAtMost(await sideways(page), 0)
    await shot(page, "submit-lease-360")
    assert.deepStrictEqual(wrong, [])
  })

  it("says how long a job took that was silent before its end", async () => {
    const { page, wrong } = await open()
    const id = await post("quiet", { ms: 1_200 }, 60)
    const took = async () => {
      await page.waitForSelector("#result-title")
      const said = /took ([\d.]+) s/.exec((await page.textContent(".facts")) ?? "")?.[1]
      assert.isAtLeast(Number(said), 1.2)
      const last = await page.locator(".ruler span").last().textContent()
      assert.isAtLeast(Number.parseFloat(last ?? ""), 1.1)
    }
    await page.goto(`${home()}#/job/${id}`)
    await took()
    await page.reload()
    await took()
    await shot(page, "quiet")
    assert.deepStrictEqual(wrong, [])
  })

  it("shows a job over time: steps, tools, what is denied, and what was delegated, at any event", async () => {
    const { heard, page, wrong } = await open()
    await submit(page, "work", work, lease)
    await ended(page, "success")
    await heard.until(/the job is done/)
    await page.waitForSelector(".child .bar[data-outcome=ended]")
    const lanes = await page.locator(".lane-name").allTextContents()
    for (const name of ["Progress", "Steps", "Tools", "Delegated", "helper@1.0.0", "Notes"])
      assert.include(lanes, name)
    assert.strictEqual(await page.locator(".bar[data-outcome=denied]").count(), 1)
    assert.match((await page.textContent(".line[data-denied]")) ?? "", /PERMISSION_DENIED/)
    assert.match((await page.textContent(".lease")) ?? "", /may read \/src\/\*\*/)
    assert.strictEqual(
      await page.locator(".artifacts a").getAttribute("href"),
      "https://example.com/report.pdf"
    )
    await shot(page, "job")
    // A part of the time has fewer bars, and says where it begins; the whole is a key away.
    const bars = await page.locator(".bar").count()
    const ruler = page.locator(".ruler")
    const { height, width, x, y } = (await ruler.boundingBox()) ?? { x: 0, y: 0, width: 0, height: 0 }
    await page.mouse.move(x + width * 0.5, y + height / 2)
    await page.mouse.down()
    await page.mouse.move(x + width * 0.6, y + height / 2, { steps: 3 })
    await page.mouse.up()
    await page.waitForFunction((n) => document.querySelectorAll(".bar").length < n, bars)
    assert.notStrictEqual(await ruler.locator("span").first().textContent(), "0")
    await page.getByRole("button", { name: "later" }).press(">")
    await page.getByRole("button", { name: "all, the whole time" }).click()
    await page.waitForFunction((n) => document.querySelectorAll(".bar").length === n, bars)
    // Back to the first step: nothing was denied, and no result is known.
    await page.locator(".bar[data-outcome=ended]").first().click()
    await page.waitForURL(/event=/)
    assert.strictEqual(await page.locator("#result-title").count(), 0)
    assert.strictEqual(await page.locator(".bar[data-outcome=denied]").count(), 0)
    assert.match((await page.textContent(".now")) ?? "", /^running.*read source 1/)
    await page.waitForFunction(() => document.querySelectorAll(".line").length < 10)
    await shot(page, "job-at-event")
    const address = page.url()
    await page.reload()
    await page.waitForSelector(".now")
    assert.strictEqual(page.url(), address)
    await page.getByRole("button", { name: "to the end" }).click()
    await page.waitForSelector("#result-title")
    // The log by text, and by level.
    await page.getByLabel("search the log").fill("source 2 read")
    await page.waitForFunction(() => document.querySelectorAll(".line").length === 1)
    await page.getByLabel("search the log").fill("")
    await page.getByLabel("least level").selectOption("error")
    await page.waitForFunction(() => document.querySelectorAll(".line").length === 1)
    await page.locator(".line").first().click()
    assert.match((await page.textContent(".detail")) ?? "", /fs\.read of \/etc\/passwd/)
    assert.deepStrictEqual(wrong, [])
  })

  it("lists jobs by filters that are the address, and cancels", async () => {
    const { page, wrong } = await open()
    await submit(page, "work", { ...work, depth: 5, pauseMs: 60_000 })
    await page.goto(`${home()}#/jobs`)
    await page.getByRole("button", { name: /^running/ }).click()
    assert.match(page.url(), /#\/jobs\?status=running$/)
    await page.waitForFunction(() => document.querySelectorAll(".jobs tbody tr").length === 1)
    await page.reload()
    await page.waitForSelector(".jobs tbody tr")
    assert.strictEqual(await page.locator(".jobs tbody tr").count(), 1)
    await shot(page, "jobs")
    await page.goBack()
    await page.goto(`${home()}#/jobs?status=running&agent=work`)
    await page.getByRole("button", { name: "Cancel", exact: true }).click()
    // The list holds still while the pointer is in it.
    await page.mouse.move(2, 2)
    // Although it was submitted by the session that the page had before it was loaded anew.
    await page.waitForSelector(".empty")
    await page.goto(`${home()}#/jobs?agent=helper`)
    await page.waitForFunction(() =>
      Array.from(document.querySelectorAll(".jobs tbody th")).every((th) =>
        th.textContent?.startsWith("helper")
      )
    )
    assert.deepStrictEqual(wrong, [])
  })

  it("makes a form of unions, of what may be null or left out, of bounds and of what is recursive", async () => {
    const { page, wrong } = await open("#/submit?agent=odd")
    const target = page.getByLabel("target")
    assert.deepStrictEqual(await target.locator("option").allTextContents(), ["–", "kind: file", "kind: web"])
    await target.selectOption({ label: "kind: web" })
    await page.getByLabel("port").fill("70000")
    await page.getByText("input.target.port is at most 65535").waitFor()
    await page.getByLabel("port").fill("443")
    await page.getByLabel("limit").first().selectOption({ label: "null" })
    await page.getByLabel("loud").selectOption("yes")
    await page.getByRole("group", { name: "nested" }).getByRole("button", { name: "give it" }).click()
    await page.getByRole("button", { name: "add to tags" }).click()
    await page.getByLabel("item 1", { exact: true }).selectOption("a")
    await page.getByRole("group", { name: "tree" }).getByRole("button", { name: "give it" }).click()
    await page.getByLabel("name").fill("root")
    await shot(page, "odd")
    await page.getByRole("button", { name: "Submit", exact: true }).click()
    await ended(page, "success")
    const [download] = await Promise.all([
      page.waitForEvent("download"),
      page
        .locator("section", { has: page.locator("#result-title") })
        .getByRole("button", { name: "download" })
        .click()
    ])
    assert.deepStrictEqual(JSON.parse(readFileSync(await download.path(), "utf8")), {
      target: { kind: "web", port: 443 },
      limit: null,
      loud: true,
      nested: { tags: ["a"] },
      tree: { name: "root", children: [] }
    })
    // What is deep and large is shown as far as somebody looks.
    await submit(page, "vast", {})
    await ended(page, "success")
    await page.waitForSelector("#result-title")
    await page.getByLabel("search the log").fill("d399")
    await page.waitForFunction(() => document.querySelectorAll(".line").length === 1)
    assert.isAtMost(await page.evaluate(() => document.querySelectorAll("main *").length), 2_000)
    assert.include((await page.textContent(".line")) ?? "", "⟨U+001B⟩[31mred")
    await shot(page, "vast")
    // A result that came in pieces is read as JSON when somebody asks for it, and not before.
    await page.evaluate(() => {
      const parse = JSON.parse
      Object.assign(globalThis, { longestRead: 0 })
      JSON.parse = (text, reviver) => {
        const read = globalThis as unknown as { longestRead: number }
        read.longestRead = Math.max(read.longestRead, String(text).length)
        return parse(text, reviver)
      }
    })
    const longestRead = () =>
      page.evaluate(() => (globalThis as unknown as { readonly longestRead: number }).longestRead)
    const id = await post("members", { count: 300_000 })
    await page.goto(`${home()}#/job/${id}`)
    await page.getByText("show more of").waitFor()
    const length = JSON.stringify(
      Object.fromEntries(Array.from({ length: 300_000 }, (_, i) => [`m${i}`, i]))
    ).length
    assert.isBelow(await longestRead(), length / 2)
    await page.getByRole("button", { name: "as a tree" }).click()
    await page.getByText("300\u202f000 members").waitFor()
    assert.strictEqual(await longestRead(), length)
    assert.deepStrictEqual(wrong, [])
  })

  it("says who is connected and how the server does, and why it cannot", async () => {
    const { page, wrong } = await open("#/runtime")
    await page.locator(".sessions th", { hasText: "this page" }).waitFor()
    assert.match(
      (await page.locator(".sessions tr", { hasText: "this page" }).textContent()) ?? "",
      /connected/
    )
    await page.locator(".gauge", { hasText: "Memory" }).locator("polyline").waitFor({ state: "attached" })
    const said = (await page.textContent("main")) ?? ""
    for (const name of ["Commit, mean", "Delivery lag", "Events"]) assert.include(said, name)
    // The figures are before those of whom there may be many.
    assert.deepStrictEqual(await page.locator("main h2").allTextContents(), [
      "Agents",
      "Server",
      "Who is connected"
    ])
    assert.notMatch(said, /e-\d|NaN|undefined/)
    await shot(page, "runtime")
    await page.route("**/metrics", (route) => route.fulfill({ status: 403, body: "no" }))
    await page.reload()
    await page.getByText("to nobody who comes through a proxy (403)").waitFor()
    await page.route("**/metrics", (route) =>
      route.request().headers()["authorization"] === "Bearer m"
        ? route.continue()
        : route.fulfill({ status: 401, body: "no" })
    )
    await page.getByLabel("Token for the metrics").fill("m")
    await page.getByRole("button", { name: "Read" }).click()
    await page.locator(".gauge", { hasText: "Memory" }).waitFor()
    const node = { state: "alive", version: "0.1.0", started_at: new Date().toISOString(), silent_ms: 9_000 }
    await page.route("**/v1/nodes", (route) =>
      route.fulfill({
        json: {
          more: true,
          nodes: [
            { ...node, name: "a", self: true, address: "10.0.0.1:7777", jobs: 3, sessions: 2 },
            { ...node, name: "<b>\u202E", self: false, state: "gone", jobs: 0, sessions: 0 }
          ]
        }
      })
    )
    await page.reload()
    const rows = page.getByRole("table", { name: "nodes" }).locator("tbody tr")
    await rows.first().waitFor()
    const [first = "", second = ""] = await rows.allTextContents()
    assert.match(first, /^a says this.*alive.*10\.0\.0\.1:7777/)
    assert.match(second, /^<b>⟨U\+202E⟩.*silent for 9\.0 s/)
    assert.deepStrictEqual(wrong, [])
  })

  it("answers what a job asks", async () => {
    const { page, wrong } = await open()
    await submit(page, "approve", {})
    await page.waitForSelector(".question")
    await page.goto(`${home()}#/jobs?waiting=yes`)
    await page.getByRole("link", { name: "asks something" }).first().click()
    await page.getByRole("button", { name: "yes", exact: true }).click()
    // As somebody types it: each character is drawn before the next one comes.
    await page.getByLabel("euros").pressSequentially("10.05")
    await shot(page, "question")
    await page.locator("[type=submit]:not([aria-disabled=true])").press("Enter")
    await ended(page, "success")
    // The form that had the focus is gone.
    assert.notStrictEqual(await page.evaluate(() => document.activeElement?.tagName), "BODY")
    assert.match((await page.textContent(".value")) ?? "", /euros: 10\.05/)
    assert.deepStrictEqual(wrong, [])
  })

  it("answers with any of many choices", async () => {
    const { page, wrong } = await open()
    await submit(page, "choose", null)
    const question = page.getByRole("region", { name: "question of the job" })
    await question.getByLabel("Answer").selectOption("choice 60")
    await question.getByRole("button", { name: "Answer" }).click()
    await ended(page, "success")
    await page.getByText("choice 60").first().waitFor()
    assert.deepStrictEqual(wrong, [])
  })

  it("answers yes or no by what is pressed, and nothing for whoever has chosen nothing", async () => {
    const { page, wrong } = await open()
    await submit(page, "sure", {})
    await page.waitForSelector(".question")
    assert.deepStrictEqual(await page.locator(".question button").allTextContents(), ["yes", "no"])
    await shot(page, "yes-no")
    await page.getByRole("button", { name: "no", exact: true }).click()
    await ended(page, "success")
    assert.match((await page.textContent(".value")) ?? "", /false/)
    assert.deepStrictEqual(wrong, [])
  })

  it("says of a result whose beginning is no longer retained that it is so", async () => {
    const limits = ["maxRetainedBytes=1048576", "maxOutboundFrameBytes=65536"]
    const other = await start(
      "--agents",
      agents,
      "--memory",
      ...limits.flatMap((limit) => ["--limit", limit])
    )
    try {
      const { console: at, token } = JSON.parse(other.line) as Said
      const headers = {
        authorization: `Bearer ${token}`,
        "content-type": "application/json",
        prefer: "wait=60"
      }
      const body = JSON.stringify({ agent: "long", input: { size: 400_000 } })
      const answer = await fetch(new URL("/v1/jobs", at), { method: "POST", headers, body })
      const { job_id } = (await answer.json()) as { readonly job_id: string }
      const page = await stranger()
      await login(page, token, at.split("#")[0])
      await page.goto(`${at.split("#")[0]}#/job/${job_id}`)
      await page.getByText("the beginning of the result is no longer retained").waitFor()
    } finally {
      other.stop()
    }
  })

  it("says what to do about a job that failed", async () => {
    const { heard, page } = await open()
    await submit(page, "breaks", {})
    await ended(page, "error")
    assert.match((await page.textContent(".problem")) ?? "", /INTERNAL_ERROR.*log of the server/)
    // Whoever does not see it hears of it once.
    await heard.until(/the job is failed: /)
    assert.strictEqual((await heard.all()).filter((text) => /failed|INTERNAL_ERROR/.test(text)).length, 1)
    await shot(page, "failed")
    // Also of how it was before: its head says that it has failed.
    await page.goto(`${page.url().split("?")[0]}?event=1`)
    await page.getByRole("button", { name: "to the end" }).waitFor()
    assert.match((await page.textContent(".problem")) ?? "", /INTERNAL_ERROR/)
  })

  it("goes on through a connection that is cut in the middle, with nothing lost, and says where it was", async () => {
    // A socket that is routed once stays so for its tab.
    const { page, wrong } = await listened(await browser.newPage())
    await login(page)
    let cut = () => {}
    await page.routeWebSocket(/\/arcp$/, (socket) => {
      const to = socket.connectToServer()
      cut = () => {
        void to.close()
        void socket.close({ code: 1001, reason: "cut" })
      }
    })
    await page.reload()
    await page.waitForSelector(".connection[data-state=Connected]")
    await submit(page, "work", { ...work, depth: 5, pauseMs: 150 })
    await page.waitForSelector(".bar[data-outcome=ended]")
    cut()
    await ended(page, "success")
    await page.waitForSelector(".marks [data-mark=lost]")
    assert.strictEqual(await page.locator(".marks [data-mark=lost]").count(), 1)
    await page.waitForSelector(".marks [data-mark=back]")
    assert.match((await page.textContent(".marks")) ?? "", /resumed after event \d+/)
    const texts = await page.evaluate(() => {
      const lines = document.querySelector(".lines")
      if (lines !== null) lines.scrollTop = 0
      return document.querySelector(".facts")?.textContent ?? ""
    })
    // running, researching; of each of ten sources a step's two, call, cost, result, log, progress, and what is left; the rest.
    const events = Number(/(\d+) events/.exec(texts)?.[1])
    await page.reload()
    await ended(page, "success")
    await page.waitForFunction(
      (n) => (document.querySelector(".facts")?.textContent ?? "").includes(`${n} events`),
      events
    )
    await shot(page, "resumed")
    assert.deepStrictEqual(wrong, [])
    await page.close()
  })

  it("shows hostile text as text", async () => {
    const { page, wrong } = await open()
    await submit(page, "hostile", { "<script>": "\u202Eabc" })
    await ended(page, "success")
    await page.waitForSelector("#result-title")
    for (let i = 0; i < (await page.locator(".line").count()); i++) await page.locator(".line").nth(i).click()
    await page.goto(page.url())
    const found = await page.evaluate(() => ({
      markup: document.querySelectorAll("main script, main img, main b, main iframe").length,
      links: Array.from(document.querySelectorAll("main a"))
        .map((a) => a.getAttribute("href"))
        .filter((href) => href !== null && !/^(#|https?:)/.test(href)),
      unseen: /[\u202a-\u202e\u2066-\u2069\u200b\u0007]/.test(document.body.textContent ?? ""),
      title: document.title
    }))
    assert.deepStrictEqual(found, { markup: 0, links: [], unseen: false, title: found.title })
    assert.notInclude(found.title, "owned")
    const text = (await page.textContent("main")) ?? ""
    assert.include(text, "⟨U+202E⟩gnp.exe")
    assert.include(text, "⟨97 marks more⟩ drawn over")
    assert.isAtMost(await sideways(page), 0)
    await page.setViewportSize({ width: 360, height: 740 })
    assert.isAtMost(await sideways(page), 0)
    await shot(page, "hostile-narrow")
    assert.deepStrictEqual(wrong, [])
  })

  it("fits a phone and a wall, in light and in dark", async () => {
    for (const [width, height, scheme] of [
      [360, 740, "light"],
      [3840, 2160, "dark"]
    ] as const) {
      const { page, wrong } = await open("#/jobs", { width, height, scheme })
      await page.waitForSelector(".jobs tbody tr")
      for (const view of ["jobs", "submit?agent=work", "runtime"]) {
        await page.goto(`${home()}#/${view}`)
        await page.waitForSelector("main h1")
        assert.isAtMost(await sideways(page), 0, `${view} at ${width}`)
        await shot(page, `${view.split("?")[0]}-${width}`)
      }
      await page.goto(`${home()}#/job/${await aJob()}`)
      await page.waitForSelector(".child .bar[data-outcome=ended]")
      assert.isAtMost(await sideways(page), 0, `job at ${width}`)
      await shot(page, `job-${width}`)
      const ground = await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor)
      const [light = 0] = /\d+/.exec(ground)?.map(Number) ?? []
      assert.strictEqual(light > 128, scheme === "light")
      assert.deepStrictEqual(wrong, [])
    }
  })

  it("is used with the keyboard alone", async () => {
    await aJob()
    const { page, wrong } = await open()
    await page.waitForSelector(".jobs tbody tr")
    /** Goes on until something with this name has the focus. */
    const tabTo = async (name: RegExp) => {
      for (let i = 0; i < 80; i++) {
        await page.keyboard.press("Tab")
        const focused = await page.evaluate(() => {
          const { activeElement: a } = document
          return `${a?.getAttribute("aria-label") ?? ""} ${a?.textContent ?? ""}`.trim()
        })
        if (name.test(focused)) return
      }
      assert.fail(`the keyboard does not get to ${name}`)
    }
    await page.locator("body").click({ position: { x: 2, y: 500 } })
    await tabTo(/^work@/)
    await page.keyboard.press("Enter")
    await page.waitForSelector(".bar")
    assert.strictEqual(await page.evaluate(() => document.activeElement?.id), "main")
    await tabTo(/^read source 1/)
    await page.keyboard.press("ArrowRight")
    assert.match(
      await page.evaluate(() => document.activeElement?.getAttribute("aria-label") ?? ""),
      /^read source 2/
    )
    await tabTo(/^events/)
    await page.keyboard.press("Home")
    await page.keyboard.press("ArrowDown")
    await page.waitForSelector(".detail")
    assert.strictEqual(await page.locator(".line[aria-selected=true]").getAttribute("aria-posinset"), "2")
    await page.keyboard.press("Enter")
    await page.waitForURL(/event=2$/)
    await page.keyboard.press("Escape")
    await page.waitForSelector(".detail", { state: "detached" })
    // What there is by role, for those who do not see it.
    for (const role of ["banner", "navigation", "main"] as const)
      assert.strictEqual(await page.getByRole(role).count(), 1, role)
    const nameless = await page.evaluate(
      () =>
        Array.from(document.querySelectorAll("button, a, input, select, textarea")).filter(
          (e) => !(e.textContent?.trim() || e.getAttribute("aria-label") || e.id)
        ).length
    )
    assert.strictEqual(nameless, 0)
    assert.deepStrictEqual(wrong, [])
  })

  it("is gone through with the Tab key on every screen, loses the focus nowhere, and keeps nobody out", async () => {
    const { page, wrong } = await open()
    const astrayAt = async (place: string, ready: string, name: string) => {
      await page.goto(`${home()}${place}`)
      await page.waitForSelector(ready)
      assert.deepStrictEqual(await astray(page), [], name)
      assert.deepStrictEqual(await barriers(page), [], name)
    }
    const at = () =>
      page.evaluate(() => {
        const { activeElement: a } = document
        return a === null || a === document.body
          ? "nothing"
          : (a.getAttribute("aria-label") ?? a.textContent?.trim() ?? "")
      })
    const id = await aJob()
    await astrayAt("#/jobs", ".jobs tbody tr", "jobs")
    await astrayAt(`#/job/${id}`, ".bar", "job")
    await astrayAt("#/submit?agent=work", "#agent", "submit")
    await astrayAt("#/submit?agent=odd", "#agent", "unions")
    await astrayAt("#/runtime", ".gauges", "runtime")
    // What is added and taken away leaves the focus near to where it was.
    await page.goto(`${home()}#/submit?agent=work`)
    for (const name of ["allow something", "give a budget"]) {
      await page.getByRole("button", { name }).focus()
      await page.keyboard.press("Enter")
      assert.notStrictEqual(await at(), "nothing", name)
    }
    for (let left = await page.getByRole("button", { name: /^(✕|remove)/ }).count(); left > 0; left--) {
      await page
        .getByRole("button", { name: /^(✕|remove)/ })
        .first()
        .focus()
      await page.keyboard.press("Enter")
      await page.waitForFunction((n) => document.querySelectorAll("main button").length > 0 && n >= 0, left)
      await page.waitForFunction(() => document.activeElement !== document.body)
    }
    // From place to place, there and back, the focus is in what is new.
    for (const [name, heading] of [
      ["Runtime", "Runtime"],
      ["Jobs", "Jobs"],
      ["Submit", "Submit a job"]
    ] as const) {
      await page.getByRole("navigation").getByRole("link", { name }).focus()
      await page.keyboard.press("Enter")
      await page.getByRole("heading", { level: 1, name: heading }).waitFor()
      await page.waitForFunction(() => document.activeElement?.id === "main")
    }
    await page.goBack()
    await page.getByRole("heading", { level: 1, name: "Jobs" }).waitFor()
    await page.waitForFunction(() => document.activeElement?.id === "main")
    // Out, and in again.
    await page.getByRole("button", { name: "Log out" }).focus()
    await page.keyboard.press("Enter")
    await page.waitForSelector("#token")
    assert.deepStrictEqual(await astray(page), [], "login")
    assert.deepStrictEqual(await barriers(page), [], "login")
    await page.focus("#token")
    await page.keyboard.type(said.token)
    await page.keyboard.press("Enter")
    await page.waitForSelector(".connection[data-state=Connected]")
    assert.deepStrictEqual(wrong, [])
  }, 360_000)

  it("tells those who do not see it what becomes of many jobs, as the sum of it", async () => {
    const { heard, page, wrong } = await open()
    // What is read at first is told by the list itself.
    await page.waitForFunction(
      () => !/so far/.test(document.querySelector(".title p")?.textContent ?? "so far")
    )
    await heard.clear()
    const many = 30
    for (let i = 0; i < many; i++) await post("breaks", {})
    const sum = (said: ReadonlyArray<string>, what: string) =>
      said.reduce((n, text) => n + Number(new RegExp(`(\\d+) ${what}`).exec(text)?.[1] ?? 0), 0)
    let said = await heard.all()
    while (sum(said, "failed") < many) said = await heard.moreThan(said.length)
    assert.deepStrictEqual([sum(said, "new jobs?"), sum(said, "failed")], [many, many])
    assert.isBelow(said.length, many)
    assert.deepStrictEqual(wrong, [])
  })

  it("lists the jobs of others to whom may see them, and filters by whose they are", async () => {
    const shared = await start(
      ...[
        "--agents",
        agents,
        "--memory",
        "--token",
        "t=watcher",
        "--token",
        "o=worker",
        "--observer",
        "watcher"
      ]
    )
    try {
      const at = (JSON.parse(shared.line) as Said).console
      for (const token of ["t", "o"])
        await fetch(new URL("/v1/jobs", at), {
          method: "POST",
          headers: {
            authorization: `Bearer ${token}`,
            "content-type": "application/json",
            prefer: "wait=20"
          },
          body: JSON.stringify({ agent: "breaks", input: {} })
        })
      const page = await stranger()
      await login(page, "t", at)
      const whose = () => page.locator(".jobs tbody tr").allTextContents()
      await page.waitForFunction(() => document.querySelectorAll(".jobs tbody tr").length === 2)
      await page.getByLabel("Principal").selectOption("worker")
      await page.waitForFunction(() => document.querySelectorAll(".jobs tbody tr").length === 1)
      assert.match((await whose())[0] ?? "", /worker/)
      // The filter is the address, and holds when that is opened anew.
      assert.match(page.url(), /principal=worker/)
      await page.reload()
      await page.waitForFunction(() => document.querySelectorAll(".jobs tbody tr").length === 1)
      assert.match((await whose())[0] ?? "", /worker/)
      await page.getByLabel("Principal").selectOption("")
      await page.waitForFunction(() => document.querySelectorAll(".jobs tbody tr").length === 2)
      await page.locator(".who", { hasText: "watcher" }).waitFor()
      // Who comes next in the same tab sees nothing of who was there.
      await page.getByRole("button", { name: "Log out" }).click()
      await page.fill("#token", "o")
      await page.getByRole("button", { name: "Log in", exact: true }).click()
      await page.locator(".who", { hasText: "worker" }).waitFor()
      await page.waitForFunction(() => document.querySelectorAll(".jobs tbody tr").length === 1)
      assert.notInclude((await page.textContent("main")) ?? "", "watcher")
    } finally {
      shared.stop()
    }
  })

  // Each event comes in a frame of its own, which costs a browser about a millisecond: the rest of 100,000 would show no more.
  it("is as quick with 6,000 events as with 600: only what is seen is in the page", async () => {
    const measured = async (count: number) => {
      const { page, wrong } = await open()
      await submit(page, "many", { count })
      await page.waitForFunction(
        () => document.querySelector("h1 .badge[data-status=success]") !== null,
        undefined,
        // A look at every frame would be work, too.
        { timeout: 100_000, polling: 100 }
      )
      await page.waitForSelector("#result-title")
      const lines = Math.round(count * 1.2) + 1
      await page.waitForFunction(
        (n) =>
          Number(
            (document.querySelector(".facts")?.textContent ?? "")
              .replace(/\u202f/g, "")
              .match(/(\d+) events/)?.[1]
          ) >= n,
        lines
      )
      const nodes = await page.evaluate(() => document.querySelectorAll("main *").length)
      // Of a hundred presses of a key, until the page has drawn.
      const keys = await page.evaluate(async () => {
        const list = document.querySelector<HTMLElement>(".lines")
        const drawn = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)))
        list?.focus()
        const since = performance.now()
        for (let i = 0; i < 30; i++) {
          list?.dispatchEvent(
            new KeyboardEvent("keydown", { key: i === 0 ? "Home" : "PageDown", bubbles: true })
          )
          await drawn()
        }
        return performance.now() - since
      })
      await page.getByLabel("search the log").fill(`line ${count - 1} of`)
      await page.waitForFunction(() => document.querySelectorAll(".line").length === 1)
      assert.include((await page.textContent(".line")) ?? "", `line ${count - 1} of`)
      if (count > 1_000) await shot(page, "many")
      assert.deepStrictEqual(wrong, [])
      return { nodes, keys }
    }
    const few = await measured(600)
    const many = await measured(6_000)
    assert.isAtMost(many.nodes, few.nodes * 1.5)
    assert.isAtMost(many.keys, few.keys * 5 + 1_000)
    // The browser may have a fraction of a core.
  }, 360_000)
})
