/** A list that holds still while somebody is in it. */
import { useEffect, useRef, useState } from "preact/hooks"
import type { Entry } from "../model/JobTable.js"
import type { Filters } from "../model/route.js"
import { counted } from "../model/text.js"
import { table } from "../state/jobs.js"

interface Held {
  readonly filters: Filters
  readonly entries: ReadonlyArray<Entry>
  readonly ids: ReadonlySet<string>
}

const holding = (filters: Filters, entries: ReadonlyArray<Entry>): Held => ({
  filters,
  entries,
  ids: new Set(entries.map(({ job_id }) => job_id))
})

/** What is not in the list yet, or is in it still, as the name of the button that shows it; empty when there is nothing. */
const newsOf = ({ ids }: Held, shown: ReadonlyArray<Entry>): string => {
  const fresh = shown.reduce((n, { job_id }) => (ids.has(job_id) ? n : n + 1), 0)
  if (fresh > 0) return `Show ${counted(fresh, "new job")}`
  return shown.length === ids.size ? "" : "Bring up to date"
}

/**
 * Which jobs are in the list, and in which order: those that the filters let through, or those of the moment when somebody came
 * into the list, by pointer or keyboard, since what is under a finger must not become another job. Of each of them is shown how it
 * is now. `area` is for the element around the list.
 */
export const useStill = (filters: Filters, shown: ReadonlyArray<Entry>) => {
  const element = useRef<HTMLDivElement>(null)
  const held = useRef<Held | undefined>(undefined)
  const [isPointed, setPointed] = useState(false)
  const [isFocused, setFocused] = useState(false)
  const [, setRefreshed] = useState(0)
  const isIn = isPointed || isFocused
  if (!isIn) held.current = undefined
  else if (held.current?.filters !== filters) held.current = holding(filters, shown)
  useEffect(() => {
    // A finger is in it until it is put down elsewhere.
    const left = ({ target }: Event) => {
      if (target instanceof Node && element.current?.contains(target) !== true) setPointed(false)
    }
    addEventListener("pointerdown", left, { capture: true })
    return () => removeEventListener("pointerdown", left, { capture: true })
  }, [])
  const { current } = held
  return {
    rows: current === undefined ? shown : current.entries.map((entry) => table.get(entry.job_id) ?? entry),
    news: current === undefined ? "" : newsOf(current, shown),
    refresh: () => {
      held.current = holding(filters, shown)
      setRefreshed((n) => n + 1)
    },
    area: {
      ref: element,
      // A list that comes to where a pointer rests is not gone into.
      onPointerMove: () => setPointed(true),
      onPointerDown: () => setPointed(true),
      onPointerLeave: ({ pointerType }: PointerEvent) => {
        if (pointerType !== "touch") setPointed(false)
      },
      // What was pressed has the focus, too, but not whoever pressed it.
      onFocusIn: ({ target }: FocusEvent) =>
        setFocused(target instanceof Element && target.matches(":focus-visible")),
      onFocusOut: () => setFocused(false)
    }
  }
}
