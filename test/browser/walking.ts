/** Going through a page with the Tab key alone, as whoever has no mouse does. */
import type { Page } from "playwright-core"

/** Runs in the page: what has the focus, and whether that can be seen. */
const focused = () => {
  const { activeElement: at } = document
  if (at === null || at === document.body) return undefined
  const page = window as unknown as { walked?: Map<Element, number> }
  const known = page.walked ?? new Map<Element, number>()
  page.walked = known
  if (!known.has(at)) known.set(at, known.size)
  const { height, left, right, top, bottom, width } = at.getBoundingClientRect()
  const seen = getComputedStyle(at)
  const around = at.parentElement === null ? seen : getComputedStyle(at.parentElement)
  const isMarked = [seen, around].some(
    ({ boxShadow, outlineStyle, outlineWidth }) =>
      (outlineStyle !== "none" && Number.parseFloat(outlineWidth) >= 1) || boxShadow !== "none"
  )
  const isIn = bottom > 0 && top < innerHeight && right > 0 && left < innerWidth
  return {
    id: known.get(at),
    name: `${at.tagName.toLowerCase()} ${at.getAttribute("aria-label") ?? at.textContent?.trim().slice(0, 40) ?? ""}`,
    problem: !isMarked
      ? "has the focus, which is not seen"
      : width < 1 || height < 1 || !isIn
        ? "has the focus out of sight"
        : undefined
  }
}

/** What can be operated. */
const operable = "a[href], button, input, select, textarea, summary, [tabindex='0']"

/** Runs in the page: whether what can be operated is what it was at the last call. */
const isSame = (selector: string) => {
  const page = window as unknown as { before?: ReadonlyArray<Element> }
  const { before = [] } = page
  const now = Array.from(document.querySelectorAll(selector))
  page.before = now
  return now.length === before.length && now.every((each, i) => each === before[i])
}

/** Runs in the page: what can be operated, and was never come to. Of a group with one place in the order that one is enough. */
const missed = (selector: string) =>
  Array.from(document.querySelectorAll<HTMLElement>(selector))
    .filter(
      (e) =>
        e.tabIndex >= 0 &&
        !e.matches(":disabled") &&
        e.checkVisibility({ visibilityProperty: true }) &&
        !(window as unknown as { walked?: Map<Element, number> }).walked?.has(e)
    )
    .map((e) => `${e.outerHTML.slice(0, 100)} is not come to`)

/**
 * Returns what is wrong with the way through a page: with no end, with what cannot be seen or come to, or out of order. A page to
 * which something comes meanwhile is gone through again.
 */
export const astray = async (page: Page): Promise<ReadonlyArray<string>> => {
  for (let walk = 1; ; walk++) {
    await page.evaluate(isSame, operable)
    const wrong = await walked(page)
    if (wrong.length === 0 || walk === 10 || (await page.evaluate(isSame, operable))) return wrong
  }
}

/** Goes through once. */
const walked = async (page: Page): Promise<ReadonlyArray<string>> => {
  await page.evaluate(() => {
    ;(window as unknown as { walked?: unknown }).walked = undefined
    document.querySelector<HTMLElement>("a[href], button:enabled, input:enabled")?.focus()
  })
  let newest = (await page.evaluate(focused))?.id ?? -1
  const wrong = new Set<string>()
  for (let i = 0; i < 200; i++) {
    await page.keyboard.press("Tab")
    const at = await page.evaluate(focused)
    // Beyond the last there is the browser itself, and then the first.
    if (at === undefined) {
      if (newest < 0) continue
      break
    }
    const id = at.id ?? 0
    if (id < newest) {
      if (id !== 0) wrong.add(`${at.name} has the focus again before the end`)
      break
    }
    if (id === newest) wrong.add(`${at.name} keeps the focus`)
    newest = Math.max(newest, id)
    if (at.problem !== undefined) wrong.add(`${at.name} ${at.problem}`)
    if (i === 199) wrong.add("the way has no end")
  }
  for (const each of await page.evaluate(missed, operable)) wrong.add(each)
  const positive = await page.evaluate(
    () => document.querySelectorAll("[tabindex]:not([tabindex='0'], [tabindex='-1'])").length
  )
  if (positive > 0) wrong.add("an order of its own")
  return [...wrong]
}
