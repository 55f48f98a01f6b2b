/**
 * A press is meant for what was there when somebody decided on it. What comes where something else was, or is moved there, takes
 * no press for a moment: it would be the second half of a double click, or one that was on its way already. Such are all buttons
 * that do what cannot be undone; they have the attribute `data-settles`.
 */
import { announce } from "./announcing.js"

/** Milliseconds in which somebody sees that it is another one, and does not press. */
const settling = 1_000

/** Where an element was seen last, in the window and in the page, and until when it takes nothing. */
interface Place {
  readonly inWindow: readonly [number, number]
  readonly inPage: readonly [number, number]
  readonly until: number
}

const places = new WeakMap<Element, Place>()

/** Tells whether something is not where it was, by more than half of its size. */
const isFar = (a: readonly [number, number], b: readonly [number, number], { height, width }: DOMRect) =>
  Math.abs(a[0] - b[0]) > width / 2 || Math.abs(a[1] - b[1]) > height / 2

const placeOf = (element: Element, now: number): Place => {
  const box = element.getBoundingClientRect()
  const inWindow = [box.left, box.top] as const
  const inPage = [box.left + scrollX, box.top + scrollY] as const
  const before = places.get(element)
  // Whoever scrolls moves it in the window only; a browser that scrolls to keep what is seen in its place, in the page only.
  const isNew =
    before === undefined || (isFar(before.inWindow, inWindow, box) && isFar(before.inPage, inPage, box))
  return { inWindow, inPage, until: isNew ? now + settling : before.until }
}

/** Sees to it that what comes and what moves takes nothing for a moment, and that this is seen and told. */
export const settle = (root: Element): void => {
  let timer: ReturnType<typeof setTimeout> | undefined
  let isAsked = false
  const look = () => {
    const now = performance.now()
    const elements = [...root.querySelectorAll("[data-settles]")]
    for (const element of elements) places.set(element, placeOf(element, now))
    let next = Number.POSITIVE_INFINITY
    for (const element of elements) {
      const until = places.get(element)?.until ?? 0
      if (until > now) {
        next = Math.min(next, until)
        element.setAttribute("aria-disabled", "true")
      } else element.removeAttribute("aria-disabled")
    }
    clearTimeout(timer)
    if (next < Number.POSITIVE_INFINITY) timer = setTimeout(look, next - now)
  }
  const ask = () => {
    if (isAsked) return
    isAsked = true
    requestAnimationFrame(() => {
      isAsked = false
      look()
    })
  }
  new MutationObserver(ask).observe(root, {
    childList: true,
    subtree: true,
    characterData: true,
    attributes: true,
    attributeFilter: ["class", "style", "open", "hidden"]
  })
  new ResizeObserver(ask).observe(root)
  addEventListener("scroll", ask, { passive: true })
  root.addEventListener(
    "click",
    (event) => {
      const element = event.target instanceof Element ? event.target.closest("[data-settles]") : null
      if (element === null) return
      // It may have moved since the page was drawn.
      look()
      if (performance.now() >= (places.get(element)?.until ?? 0)) return
      event.preventDefault()
      event.stopImmediatePropagation()
      announce("this has just come or moved, and was not pressed: press it again", "settling")
    },
    { capture: true }
  )
}
