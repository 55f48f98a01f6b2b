/** What a page says to those who do not see it: whatever comes into its live regions. */
import type { Page } from "playwright-core"

interface Hearing {
  heard?: Array<string>
}

/** Runs in the page, before anything else does. */
const listen = () => {
  const page = window as unknown as Hearing
  const heard: Array<string> = []
  page.heard = heard
  const live = "[role=status], [role=alert], [role=log], [aria-live]:not([aria-live=off])"
  new MutationObserver((mutations) => {
    const regions = new Set<Element>()
    for (const { addedNodes, target } of mutations)
      for (const node of [target, ...addedNodes]) {
        const element = node instanceof Element ? node : node.parentElement
        const region = element?.closest(live)
        if (region) regions.add(region)
        // What is an alert when it comes is told, too.
        if (element !== null && element !== target)
          for (const inner of element.querySelectorAll(live)) regions.add(inner)
      }
    for (const region of regions) {
      const text = region.textContent?.trim() ?? ""
      if (text !== "" && region.isConnected) heard.push(text)
    }
  }).observe(document, { subtree: true, childList: true, characterData: true })
}

/** On a busy machine a page asks for the jobs every ten seconds, and for long. */
const patience = 110_000
/** Milliseconds between two looks: one at every frame, the default, would have the page draw all the time. */
const polling = 100

/** Begins to listen to a page, before it is opened. */
export const hearing = async (page: Page) => {
  await page.addInitScript(listen)
  const all = () => page.evaluate(() => (window as unknown as Hearing).heard ?? [])
  return {
    /** All that was said since the page was loaded, or since it was cleared. */
    all,
    clear: () => page.evaluate(() => (window as unknown as Hearing).heard?.splice(0)),
    /** Waits until something like this is said. */
    until: (what: RegExp) =>
      page.waitForFunction(
        ([source = ""]) =>
          (window as unknown as Hearing).heard?.some((text) => new RegExp(source).test(text)),
        [what.source],
        { timeout: patience, polling }
      ),
    /** All that was said, once it is more than so much. */
    moreThan: async (before: number) => {
      await page.waitForFunction((n) => ((window as unknown as Hearing).heard?.length ?? 0) > n, before, {
        timeout: patience,
        polling
      })
      return all()
    }
  }
}
