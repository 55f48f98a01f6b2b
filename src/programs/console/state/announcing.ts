/** What is said to those who do not see the page: in one place, one thing at a time, so that a page in which much happens can be listened to. */
import { signal } from "@preact/signals"
import { Announcements } from "../model/announcements.js"

const waiting = new Announcements()

/** What was said last, and how many things were: the same text again is said again. */
export const said = signal<{ readonly text: string; readonly times: number }>({ text: "", times: 0 })

/** Milliseconds between two things: what comes sooner is not read to its end. */
const pause = 1_500

let timer: ReturnType<typeof setTimeout> | undefined

const say = (): void => {
  const text = waiting.next()
  timer = text === undefined ? undefined : setTimeout(say, pause)
  if (text !== undefined) said.value = { text, times: said.value.times + 1 }
}

/** Milliseconds in which what comes and goes is said once. */
const seldom = 60_000
const saidAt = new Map<string, number>()

/** Says something that may come and go many times, as what a store that fails now and then leads to: once in a minute. */
export const announceSeldom = (text: string, about: string): void => {
  const now = performance.now()
  if (now - (saidAt.get(about) ?? Number.NEGATIVE_INFINITY) < seldom) return
  saidAt.set(about, now)
  announce(text, about)
}

/** Says something; `about`: what it is about, of which only the newest is said. */
export const announce = (text: string, about = text): void => announceThen(() => text, about)

/** Says what `tell` says when its turn has come, or nothing. */
export const announceThen = (tell: () => string | undefined, about: string): void => {
  waiting.add(tell, about)
  if (timer === undefined) say()
}
