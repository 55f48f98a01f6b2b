/** Small pieces of the views. */
import type { ComponentChildren } from "preact"
import { useEffect, useState } from "preact/hooks"
import type { JobStatus } from "../../../protocol/JobStatus.js"
import { adviceFor, type Doing } from "../model/advice.js"
import { format, type Route } from "../model/route.js"
import { count, plain, refused } from "../model/text.js"
import { textIn } from "../model/values.js"
import { announce } from "../state/announcing.js"
import { go } from "../state/navigation.js"

/** A text of others: none of it is markup, and it has a direction of its own. */
export const Text = ({ most, text }: { readonly text: string; readonly most?: number }) => (
  <bdi class="text">{plain(text, most)}</bdi>
)

const names: Readonly<Record<JobStatus, string>> = {
  pending: "waiting to begin",
  running: "running",
  success: "done",
  error: "failed",
  cancelled: "cancelled",
  timed_out: "timed out"
}
export const statusName = (status: JobStatus): string => names[status]

export const Badge = ({ status }: { readonly status: JobStatus }) => (
  <span class="badge" data-status={status}>
    {names[status] ?? plain(status, 40)}
  </span>
)

/** A link within the console. */
export const Go = ({
  children,
  to,
  ...rest
}: {
  readonly to: Route
  readonly children: ComponentChildren
  readonly class?: string
  readonly "aria-current"?: "page" | undefined
}) => (
  <a
    {...rest}
    href={format(to)}
    onClick={(event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return
      event.preventDefault()
      go(to)
    }}
  >
    {children}
  </a>
)

const copied = async (text: string): Promise<void> => {
  try {
    await navigator.clipboard.writeText(text)
  } catch {
    // A page that is not secure has no clipboard, and this is what there was before.
    const area = document.createElement("textarea")
    area.value = text
    area.className = "offscreen"
    document.body.append(area)
    area.select()
    document.execCommand("copy")
    area.remove()
  }
  announce("copied")
}

export const Copy = ({
  disabled = false,
  label,
  text
}: {
  readonly label: string
  readonly text: () => string
  readonly disabled?: boolean
}) => {
  const [done, setDone] = useState(false)
  return (
    <button
      type="button"
      class="small"
      disabled={disabled}
      onClick={() =>
        void copied(text()).then(() => {
          setDone(true)
          setTimeout(() => setDone(false), 1_500)
        })
      }
    >
      {done ? "copied ✓" : label}
    </button>
  )
}

/** An error, and what to do about it. */
export const Problem = ({
  code,
  details,
  doing,
  isSaid = false,
  message
}: {
  readonly code: string
  readonly doing?: Doing | undefined
  readonly message: string
  readonly details?: unknown
  /** Whether whoever does not see the page is told of it otherwise. */
  readonly isSaid?: boolean
}) => {
  const advice = adviceFor(code, textIn(details, "reason"), doing)
  return (
    <div class="problem" role={isSaid ? undefined : "alert"}>
      <p>
        <strong>
          <Text text={code} most={80} />
        </strong>{" "}
        <Text text={message} most={2_000} />
        <Text text={refused(details)} most={300} />
      </p>
      {advice === undefined ? null : <p class="advice">{advice}</p>}
    </div>
  )
}

/** What an action that was asked for has come to. */
export const Failed = ({
  doing,
  error,
  isSaid = false
}: {
  readonly error: unknown
  /** What was asked for, where that makes a difference to what can be done. */
  readonly doing?: Doing | undefined
  readonly isSaid?: boolean
}) =>
  error === undefined ? null : (
    <Problem
      doing={doing}
      isSaid={isSaid}
      code={textIn(error, "code") ?? ""}
      message={error instanceof Error ? error.message : String(error)}
      details={typeof error === "object" && error !== null && "details" in error ? error.details : undefined}
    />
  )

/** Characters of a text that a page lays out in a moment, even when they are one line. */
const mostLong = 500_000

/** A long text, of which the rest is shown when it is asked for, as far as a page can; `isAll`: whether the text is all of it. */
export const Long = ({ isAll = true, text }: { readonly text: string; readonly isAll?: boolean }) => {
  const [most, setMost] = useState(20_000)
  return (
    <>
      <pre class="long">
        <bdi>{plain(text.slice(0, most), most)}</bdi>
      </pre>
      {isAll && text.length <= most ? null : most < mostLong ? (
        <button type="button" class="small" onClick={() => setMost(Math.min(mostLong, most * 5))}>
          show more of {isAll ? `${count(text.length)} characters` : "it"}
        </button>
      ) : (
        <p class="quiet">
          {isAll
            ? `${count(most)} of ${count(text.length)} characters: the rest is in the download.`
            : `${count(most)} characters of it: the rest is in the download.`}
        </p>
      )}
    </>
  )
}

/** Saves a file that is made here. */
export const download = (name: string, content: BlobPart, type: string): void => {
  const address = URL.createObjectURL(new Blob([content], { type }))
  const link = document.createElement("a")
  link.href = address
  link.download = name.replace(/[^\w.-]+/g, "_").slice(0, 100)
  link.click()
  setTimeout(() => URL.revokeObjectURL(address), 10_000)
}

/** The time, again and again, while something that is shown goes on. */
export const useNow = (going: boolean, everyMs = 1_000): number => {
  const [now, setNow] = useState(Date.now())
  useEffect(() => {
    if (!going) return
    const timer = setInterval(() => setNow(Date.now()), everyMs)
    return () => clearInterval(timer)
  }, [going, everyMs])
  return going ? now : Date.now()
}
