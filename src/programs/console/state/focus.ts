/** The keyboard's place: what has the focus may go as a job goes on, and whoever is there must not begin anew. */

const focusable =
  "a[href], button:not(:disabled), input:not(:disabled), select, textarea, [tabindex='0'], summary"

/** Goes to what is nearest to the place of something that is gone. */
const nearest = (ancestors: ReadonlyArray<Element>): HTMLElement | undefined => {
  const home = ancestors.find((element) => element.isConnected)
  if (home === undefined || home.id === "main" || home.querySelector("main") !== null)
    return document.getElementById("main") ?? undefined
  return home.querySelector<HTMLElement>(focusable) ?? document.getElementById("main") ?? undefined
}

/** Sees to it that the focus stays near to where it was, when what has it is taken away, or cannot have it any more. */
export const keepFocus = (root: Element): void => {
  let ancestors: ReadonlyArray<Element> = []
  let last: Element | undefined
  root.addEventListener("focusin", ({ target }) => {
    if (!(target instanceof Element)) return
    last = target
    const above: Array<Element> = []
    for (let at = target.parentElement; at !== null; at = at.parentElement) above.push(at)
    ancestors = above
  })
  root.addEventListener("focusout", ({ target }) => {
    // Whoever goes elsewhere by hand leaves what is still there.
    queueMicrotask(() => {
      if (last !== undefined && last === target && last.isConnected && !last.matches(":disabled"))
        last = undefined
    })
  })
  const isGone = () => last !== undefined && (!last.isConnected || last.matches(":disabled"))
  const look = () => {
    const { activeElement } = document
    if (!isGone() || (activeElement !== null && activeElement !== document.body && activeElement !== last))
      return
    const to = nearest(ancestors)
    last = undefined
    to?.focus({ preventScroll: true })
  }
  // Browsers take the focus away when they draw.
  new MutationObserver(() => {
    if (isGone()) requestAnimationFrame(look)
  }).observe(root, { childList: true, subtree: true, attributes: true, attributeFilter: ["disabled"] })
}

/** Sees to it that a wheel scrolls, also over what has the focus: browsers let it change a number, and a choice, that somebody has put there. */
export const keepValues = (root: Element): void =>
  root.addEventListener(
    "wheel",
    ({ target }) => {
      if (target instanceof HTMLElement && target.matches("input[type=number]:focus, select:focus"))
        target.blur()
    },
    { capture: true, passive: true }
  )
