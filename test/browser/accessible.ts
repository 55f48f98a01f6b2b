/** What of a page is hard to read, or cannot be told by who does not see it. */
import axe from "axe-core"
import type { Page } from "playwright-core"

/** Runs in the page: each text with less contrast than WCAG 2 AA asks for, that of fields that are empty among them. */
const lowContrast = (): ReadonlyArray<string> => {
  type Colour = readonly [r: number, g: number, b: number, a: number]
  const parse = (text: string): Colour => {
    const [r = 0, g = 0, b = 0, a = 1] = (text.match(/[\d.]+(?:e-\d+)?/g) ?? []).map(Number)
    // What is mixed in CSS is told in parts of one.
    return text.startsWith("color(") ? [r * 255, g * 255, b * 255, a] : [r, g, b, a]
  }
  const over = ([r, g, b, a]: Colour, [r2, g2, b2, a2]: Colour): Colour => {
    const all = a + a2 * (1 - a)
    const mix = (x: number, y: number) => (all === 0 ? 0 : (x * a + y * a2 * (1 - a)) / all)
    return [mix(r, r2), mix(g, g2), mix(b, b2), all]
  }
  const luminance = (colour: Colour): number => {
    const [r = 0, g = 0, b = 0] = colour
      .slice(0, 3)
      .map((v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4))
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const above = (element: Element): ReadonlyArray<Element> =>
    element.parentElement === null ? [element] : [element, ...above(element.parentElement)]
  const groundOf = (element: Element): Colour =>
    over(
      above(element).reduce<Colour>(
        (ground, each) =>
          ground[3] > 0.99 ? ground : over(ground, parse(getComputedStyle(each).backgroundColor)),
        [0, 0, 0, 0]
      ),
      [255, 255, 255, 1]
    )
  const found = new Set<string>()
  const look = (element: Element, text: string, colour: string) => {
    const style = getComputedStyle(element)
    const { height, width } = element.getBoundingClientRect()
    if (style.visibility === "hidden" || height < 1 || width < 1) return
    const ground = groundOf(element)
    const opacity = above(element).reduce((all, each) => all * Number(getComputedStyle(each).opacity), 1)
    const [r, g, b, a] = parse(colour)
    const [low = 0, high = 0] = [luminance(over([r, g, b, a * opacity], ground)), luminance(ground)].sort(
      (x, y) => x - y
    )
    const size = Number.parseFloat(style.fontSize)
    const needed = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5
    const ratio = (high + 0.05) / (low + 0.05)
    if (ratio < needed) found.add(`${ratio.toFixed(2)}: ${text.trim().slice(0, 40)}`)
  }
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  while (texts.nextNode() !== null) {
    const { data, parentElement } = texts.currentNode as Text
    if (parentElement === null || data.trim() === "") continue
    const style = getComputedStyle(parentElement)
    look(parentElement, data, parentElement instanceof SVGElement ? style.fill : style.color)
  }
  for (const field of document.querySelectorAll<HTMLInputElement>("input[placeholder]"))
    if (field.value === "") look(field, field.placeholder, getComputedStyle(field, "::placeholder").color)
  return [...found]
}

/** Runs in the page, where the engine is: what it finds, and where. */
const found = async (rules: ReadonlyArray<string>): Promise<ReadonlyArray<string>> => {
  const { axe } = window as unknown as { readonly axe: typeof import("axe-core") }
  const { violations } = await axe.run(document, {
    resultTypes: ["violations"],
    ...(rules.length === 0 ? {} : { runOnly: [...rules] })
  })
  return violations.flatMap(({ id, nodes }) =>
    nodes.slice(0, 5).map(({ html, target }) => `${id}: ${target.join(" ")} ${html.slice(0, 120)}`)
  )
}

/** Returns what keeps people out of a page as it is, in both colour schemes: what axe finds, and contrast that it leaves to people. */
export const barriers = async (page: Page): Promise<ReadonlyArray<string>> => {
  const devtools = await page.context().newCDPSession(page)
  // Not as a script of the page's, which its policy would not let in.
  await devtools.send("Runtime.evaluate", { expression: axe.source })
  await devtools.detach()
  const wrong: Array<string> = []
  // All rules in one scheme, and in the other what depends on it.
  for (const [colorScheme, rules] of [
    ["light", []],
    ["dark", ["color-contrast"]]
  ] as const) {
    await page.emulateMedia({ colorScheme })
    for (const text of [...(await page.evaluate(lowContrast)), ...(await page.evaluate(found, rules))])
      wrong.push(`${colorScheme}: ${text}`)
  }
  return wrong
}
