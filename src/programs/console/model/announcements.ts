/** What is to be said to those who do not see the page: one thing after the other, and of much that happens the sum. */
import type { JobStatus } from "../../../protocol/JobStatus.js"
import { count } from "./text.js"

/** Things that wait to be said; of more the oldest are left, which nobody could follow any more. */
const most = 4

/** A line of things to be said. What comes about the same as something that still waits takes its place. */
export class Announcements {
  readonly #waiting: Array<{ readonly text: () => string | undefined; readonly about: string }> = []

  /** Adds a text, or what tells it when its turn has come; `about`: what it is about, unless that is the text itself. */
  add(given: string, about?: string): void
  add(given: string | (() => string | undefined), about: string): void
  add(given: string | (() => string | undefined), about = String(given)): void {
    const text = typeof given === "string" ? () => given : given
    const at = this.#waiting.findIndex((waiting) => waiting.about === about)
    if (at >= 0) this.#waiting.splice(at, 1)
    this.#waiting.push({ text, about })
    if (this.#waiting.length > most) this.#waiting.shift()
  }

  /** Returns what is to be said next. */
  next(): string | undefined {
    for (let first = this.#waiting.shift(); first !== undefined; first = this.#waiting.shift()) {
      const text = first.text()
      if (text !== undefined) return text
    }
    return undefined
  }
}

const endings: Readonly<Partial<Record<JobStatus, string>>> = {
  success: "done",
  error: "failed",
  cancelled: "cancelled",
  timed_out: "timed out"
}

/** What has become of the jobs of a list since it was told last. */
export class Tidings {
  #submitted = 0
  readonly #ended = new Map<string, number>()

  /** Takes a change of a job, of which nothing was known without `before`. */
  take(before: JobStatus | undefined, after: JobStatus): void {
    if (before === undefined) this.#submitted++
    const ending = before === after ? undefined : endings[after]
    if (ending !== undefined) this.#ended.set(ending, (this.#ended.get(ending) ?? 0) + 1)
  }

  /** Returns it as one text, and begins anew; `undefined` when nothing has changed. */
  told(): string | undefined {
    const parts = [
      ...(this.#submitted === 0
        ? []
        : [`${count(this.#submitted)} new ${this.#submitted === 1 ? "job" : "jobs"}`]),
      ...Array.from(this.#ended, ([ending, n]) => `${count(n)} ${ending}`)
    ]
    this.#submitted = 0
    this.#ended.clear()
    return parts.length === 0 ? undefined : parts.join(", ")
  }
}
