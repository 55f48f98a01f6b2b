/** The console of a runtime whose store fails in a third of what it is asked: nobody hangs, nobody is shown a stack, and nothing is lost. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type { Browser } from "playwright-core"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import * as StoreMemory from "../../src/layers/store/StoreMemory.js"
import { served } from "../layers/http/served.js"
import { flakyStore } from "../support/flakyStore.js"
import { hearing } from "./hearing.js"
import { browser as browserOf, launch } from "./host.js"

const executable = browserOf(
  "ARCP_CHROMIUM",
  ["chromium", "chromium-browser", "google-chrome"],
  "the console over a store that fails"
)

describe.skipIf(executable === undefined)("the console over a store of which a third fails", () => {
  const { faults, layer } = flakyStore(StoreMemory.layer(), 11)
  let browser: Browser
  let base: URL
  let scope: Scope.CloseableScope

  beforeAll(async () => {
    scope = await Effect.runPromise(Scope.make())
    base = (await Effect.runPromise(Scope.extend(served({ store: layer, console: true }), scope))).base
    browser = await launch(executable as string)
  })
  afterAll(async () => {
    faults.share = 0
    await browser?.close()
    await Effect.runPromise(Scope.close(scope, Exit.void))
  })

  it("submits, follows to the end with every event, and says what is the matter in words", async () => {
    const page = await browser.newPage()
    page.setDefaultTimeout(60_000)
    const heard = await hearing(page)
    const errors: Array<string> = []
    page.on("pageerror", (error) => errors.push(error.message))
    const home = new URL("/console", base).href
    await page.goto(home)
    faults.share = 0.35
    await page.fill("#token", "a")
    await page.getByRole("button", { name: "Log in", exact: true }).click()
    await page.waitForSelector(".connection[data-state=Connected]")
    await page.goto(`${home}#/submit?agent=emit`)
    await page.locator("#agent option", { hasText: "emit@" }).waitFor({ state: "attached" })
    await page.getByRole("button", { name: "as JSON" }).click()
    await page.getByLabel("Input", { exact: true }).fill('{"count": 300, "delayMs": 3}')
    // Whoever is told that it was not taken sends it again.
    while (!page.url().includes("#/job/")) {
      await page.getByRole("button", { name: "Submit", exact: true }).click()
      await page.waitForFunction(
        () =>
          location.hash.startsWith("#/job/") ||
          [...document.querySelectorAll(".problem")].some((e) => /storage|store/.test(e.textContent ?? ""))
      )
    }
    await page.waitForFunction(() => document.querySelector("h1 .badge[data-status=success]") !== null)
    // Also before it could be read.
    assert.notMatch((await page.textContent(".facts")) ?? "", /took -|NaN/)
    await page.waitForFunction(() => /30\d events/.test(document.querySelector(".facts")?.textContent ?? ""))
    await page.goto(`${home}#/jobs`)
    await page.waitForSelector(".jobs tbody tr")
    await page.goto(`${home}#/runtime`)
    await page.locator(".sessions tbody tr").first().waitFor()
    const text = `${await page.textContent("body")} ${(await heard.all()).join(" ")}`
    assert.notMatch(text, /secret|\bat .*\.[jt]s:\d|undefined|\[object/)
    // What comes and goes is said once.
    const following = (await heard.all()).filter((each) => /cannot be followed|not up to date/.test(each))
    assert.isAtMost(following.length, 2)
    assert.deepStrictEqual(errors, [])
    await page.close()
  })
})
