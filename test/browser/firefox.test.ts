/** The client in a real Firefox: the demo page's job outlives a cut connection and a reload. */
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { launch, type Page } from "./bidi.js"
import { browser, files, nasty, serve } from "./host.js"

const executable = browser("ARCP_FIREFOX", ["firefox-esr", "firefox"], "the client in Firefox")

describe.skipIf(executable === undefined)("the demo page in Firefox (where there is one)", () => {
  let server: Awaited<ReturnType<typeof serve>>
  let page: Page

  beforeAll(async () => {
    server = await serve()
    page = await launch(executable as string)
  })
  afterAll(async () => {
    await page?.close()
    server?.stop()
  })

  const text = async (id: string) =>
    String(await page.evaluate(`document.getElementById("${id}").textContent`))
  const click = (id: string) => page.evaluate(`document.getElementById("${id}").click()`)

  it("submits, resumes after a pulled plug and a reload, and has the result, with nothing lost or twice", async () => {
    await page.goto(`${server.origin}/demo#${new URLSearchParams({ token: "secret", root: server.root })}`)
    await page.until('document.querySelector("#lamp[data-state=on]")')
    await click("start")
    await page.until('document.getElementById("progress").value > 100')
    await click("pull")
    await page.until('document.querySelector("#log .good")')
    assert.match(await text("log"), /resumed after event \d+/)
    await page.reload()
    await page.until('document.getElementById("verdict")?.textContent')
    assert.match(await text("verdict"), /^Done: \d+ events, none missing, none twice$/)
    const [, first, last, count] = /events (\d+) to (\d+): (\d+), 0 missing/.exec(await text("counted")) ?? []
    assert.strictEqual(Number(last) - Number(first) + 1, Number(count))
    assert.match(await text("counted"), new RegExp(`^${files} of ${files} files`))
    assert.include(await text("report"), nasty)
  })
})
