/**
 * The page at `/demo` of `arcp serve --agents demo`: submits `survey`, breaks its own connection, and keeps count of
 * what comes. What it knows of the job is kept in the tab's storage, as is the place of its session, so that a reload
 * goes on where the page was.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as ArcpClient from "../../layers/client/ArcpClient.js"
import * as ClientState from "../../layers/client/ClientState.js"
import * as DialerWebSocketGlobal from "../../layers/transport/DialerWebSocketGlobal.js"
import * as Vendor from "../../protocol/Vendor.js"
import { Dialer, TransportError } from "../../services/transport/Transport.js"
import { render } from "./markdown.js"

const find = <E extends HTMLElement>(id: string): E => {
  const element = document.getElementById(id)
  if (element === null) throw new Error(`the page has no #${id}`)
  return element as E
}
const page = {
  connect: find<HTMLFormElement>("connect"),
  token: find<HTMLInputElement>("token"),
  lamp: find("lamp"),
  status: find("status"),
  last: find("last"),
  connections: find("connections"),
  agents: find("agents"),
  pull: find<HTMLButtonElement>("pull"),
  offline: find<HTMLButtonElement>("offline"),
  submit: find<HTMLFormElement>("submit"),
  root: find<HTMLInputElement>("root"),
  start: find<HTMLButtonElement>("start"),
  cancel: find<HTMLButtonElement>("cancel"),
  job: find("job"),
  progress: find<HTMLProgressElement>("progress"),
  counted: find("counted"),
  verdict: find("verdict"),
  log: find("log"),
  report: find("report")
}

type Tone = "plain" | "good" | "warn" | "bad"

/** What this tab knows of its job, also after a reload. */
interface KnownJob {
  readonly jobId: string
  readonly root: string
  /** `event_seq` of its first event, of its newest, and how many there were. */
  first: number
  last: number
  count: number
  /** Events that were not the one that follows. */
  missing: number
  twice: number
  progress: { readonly current: number; readonly total: number }
  readonly lines: Array<readonly [time: string, text: string, tone: Tone]>
}

const maxLines = 500
let known: KnownJob | undefined
let connections = 0

const show = (element: HTMLElement, text: string) => {
  element.textContent = text
}
const showReport = (markdown: string) => page.report.replaceChildren(...render(markdown))
const rememberNow = () => {
  if (known !== undefined) sessionStorage.setItem("demo-job", JSON.stringify(known))
}
addEventListener("pagehide", rememberNow)
let remembering = false
/** Soon, for many events at once; a page that is left remembers at once. */
const remember = () => {
  if (remembering) return
  remembering = true
  setTimeout(() => {
    remembering = false
    rememberNow()
  }, 100)
}

const showLine = ([time, text, tone]: KnownJob["lines"][number]) => {
  const item = document.createElement("li")
  const at = document.createElement("time")
  const said = document.createElement("span")
  show(at, time)
  show(said, text)
  said.className = tone
  item.append(at, said)
  page.log.append(item)
  while (page.log.childElementCount > maxLines) page.log.firstElementChild?.remove()
  page.log.scrollTop = page.log.scrollHeight
}
const say = (text: string, tone: Tone = "plain") => {
  const line = [new Date().toLocaleTimeString([], { hour12: false }), text, tone] as const
  known?.lines.push(line)
  if (known !== undefined && known.lines.length > maxLines) known.lines.shift()
  showLine(line)
}

const showJob = () => {
  if (known === undefined) return
  const { count, first, jobId, last, missing, progress, root, twice } = known
  show(page.job, `${jobId}, of ${root}`)
  page.progress.max = progress.total || 1
  page.progress.value = progress.current
  show(
    page.counted,
    `${progress.current} of ${progress.total || "?"} files` +
      (count === 0 ? "" : ` · events ${first} to ${last}: ${count}, ${missing} missing, ${twice} twice`)
  )
}

const verdict = (text: string, tone: "good" | "bad" | "none") => {
  show(page.verdict, text)
  page.verdict.dataset["state"] = tone
}

/** The newest event that came since the page was loaded. */
let newest = 0

/** Counts an event; tells whether it is new. What was read just before a reload may come again after it. */
const counts = (job: KnownJob, seq: number): boolean => {
  if (seq <= newest) job.twice++
  newest = Math.max(newest, seq)
  if (job.count > 0 && seq <= job.last) return false
  if (job.count === 0) job.first = seq
  else job.missing += seq - job.last - 1
  job.last = seq
  job.count++
  return true
}

const take = (job: KnownJob, event: ArcpClient.JobEvent) => {
  if (event.kind === "gap") {
    say(event.body.message, "bad")
    job.missing++
    return
  }
  if (!counts(job, event.eventSeq)) return
  show(page.last, String(event.eventSeq))
  switch (event.kind) {
    case "progress":
      job.progress = { current: event.body.current, total: event.body.total ?? 0 }
      break
    case "status":
      say(`${event.body.phase} ${event.body.message ?? ""}`)
      break
    case "log":
      say(event.body.message, event.body.level === "info" ? "plain" : "warn")
      break
    case "metric":
      say(`${event.body.name} ${event.body.value} ${event.body.unit ?? ""}`)
      break
    case "result_chunk":
      break
    // There are many, and what they do is told.
    case Vendor.step:
      break
    default:
      say(event.kind === "other" ? event.wireKind : event.kind)
  }
}

/** Follows a job to its end. */
const follow = (handle: ArcpClient.JobHandle, job: KnownJob) =>
  Effect.gen(function* () {
    page.cancel.disabled = false
    page.cancel.onclick = () => {
      page.cancel.disabled = true
      Effect.runFork(Effect.ignore(handle.cancel("cancelled on the page")))
    }
    const events = yield* Effect.fork(
      Stream.runForEach(handle.events, (event) =>
        Effect.sync(() => {
          take(job, event)
          showJob()
          remember()
        })
      )
    )
    const result = yield* handle.result
    yield* Fiber.join(events)
    showReport(String(result))
    sessionStorage.setItem("demo-report", String(result).slice(0, 1_000_000))
    const whole = job.missing === 0 && job.twice === 0
    verdict(
      whole
        ? `Done: ${job.count} events, none missing, none twice`
        : `Done, but ${job.missing} events are missing and ${job.twice} came twice`,
      whole ? "good" : "bad"
    )
  }).pipe(
    Effect.catchAll(({ code, message }) =>
      Effect.sync(() => {
        say(`${code}: ${message}`, code === "CANCELLED" ? "warn" : "bad")
        verdict(code === "CANCELLED" ? "Cancelled" : `${code}: ${message}`, "bad")
      })
    ),
    Effect.ensuring(
      Effect.sync(() => {
        page.cancel.disabled = true
        page.start.disabled = false
        remember()
      })
    )
  )

/** Shows no verdict and no report. */
const clearResult = () => {
  verdict("", "none")
  sessionStorage.removeItem("demo-report")
  show(page.report, "The result of the job will be here.")
}

/** This tab is a duplicate: what it knows is a copy, and the job goes on in the other. */
const leaveToOther = () => {
  known = undefined
  sessionStorage.removeItem("demo-job")
  page.log.replaceChildren()
  say("another tab holds the session and its job; this one has a session of its own", "warn")
  show(page.job, "no job yet")
  show(page.counted, "")
  show(page.last, "–")
  page.progress.value = 0
  clearResult()
}

const submit = (client: ArcpClient.ArcpClientService, root: string) =>
  Effect.gen(function* () {
    const lease = { "fs.read": [`${root.replace(/\/+$/, "")}/**`] }
    // A job outlives the page; its result is asked for again after a reload.
    const handle = yield* client.submit("survey", { root }, { leaseRequest: lease, onInterrupt: "detach" })
    known = {
      jobId: handle.jobId,
      root,
      first: 0,
      last: 0,
      count: 0,
      missing: 0,
      twice: 0,
      progress: { current: 0, total: 0 },
      lines: []
    }
    page.log.replaceChildren()
    say(`accepted by ${handle.agent}; it may read below ${root}`)
    showJob()
    clearResult()
    yield* follow(handle, known)
  })

const showStatus = (status: ArcpClient.Status) => {
  const connected = status._tag === "Connected"
  page.pull.disabled = page.offline.disabled = !connected
  page.lamp.dataset["state"] = connected ? "on" : status._tag === "Closed" ? "failed" : "away"
  switch (status._tag) {
    case "Connecting":
      return show(page.status, "connecting")
    case "Connected":
      connections++
      show(page.connections, String(connections))
      show(page.status, "connected")
      if (status.resumedAt !== undefined) say(`resumed after event ${status.resumedAt}`, "good")
      return
    case "Reconnecting":
      show(page.status, "the connection is gone; reconnecting")
      say(`${status.reason}; the last event was ${status.lastEventSeq}`, "warn")
      return
    case "Closed":
      show(page.status, status.error === undefined ? "closed" : status.error.message)
  }
}

/** No connection is made before then: what a train in a tunnel does to a page. */
let offlineUntil = 0

const path = document.querySelector<HTMLMetaElement>('meta[name="arcp-path"]')?.content ?? "/arcp"
const url = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${path}`
const dialer = Layer.succeed(Dialer, {
  connect: Effect.suspend(() =>
    Date.now() < offlineUntil
      ? new TransportError({ message: "offline, as asked" })
      : DialerWebSocketGlobal.connect({ url, allowInsecure: true })
  )
})

const store: ClientState.StateStore = {
  get: (key) => Effect.sync(() => Option.fromNullable(sessionStorage.getItem(key))),
  set: (key, value) => Effect.sync(() => sessionStorage.setItem(key, value))
}

/** A session, for as long as the page is there. */
const session = (token: string) =>
  Effect.gen(function* () {
    const client = yield* ArcpClient.make({
      token: Redacted.make(token),
      name: "effect-arcp demo",
      state: ClientState.keyValueStore(store, "demo-session", {
        copied: true,
        onHeld: Effect.sync(leaveToOther)
      })
    })
    sessionStorage.setItem("demo-token", token)
    yield* Effect.fork(
      Stream.runForEach(client.status.changes, (status) => Effect.sync(() => showStatus(status)))
    )
    show(page.agents, (yield* client.agents).map(({ name }) => name).join(", "))
    page.pull.onclick = () => Effect.runFork(client.dropTransport)
    page.offline.onclick = () => {
      offlineUntil = Date.now() + 5_000
      Effect.runFork(client.dropTransport)
    }
    const scope = yield* Effect.scope
    page.start.disabled = false
    page.submit.onsubmit = (event) => {
      event.preventDefault()
      page.start.disabled = true
      const submitting = Effect.catchAll(submit(client, page.root.value), (error) =>
        Effect.sync(() => {
          verdict(error.message, "bad")
          page.start.disabled = false
        })
      )
      Effect.runFork(Effect.forkIn(Effect.scoped(submitting), scope))
    }
    const [left] = yield* client.restored
    if (left !== undefined && known?.jobId === left.jobId) {
      say("the page was loaded anew", "warn")
      page.start.disabled = true
      yield* follow(yield* client.attach(left.jobId), known)
    }
    return yield* Effect.never
  }).pipe(
    Effect.scoped,
    Effect.provide(dialer),
    Effect.catchAll((error) =>
      Effect.sync(() => {
        page.lamp.dataset["state"] = "failed"
        show(page.status, error.message)
      })
    )
  )

const given = new URLSearchParams(location.hash.slice(1))
page.token.value = given.get("token") ?? sessionStorage.getItem("demo-token") ?? ""
page.root.value = given.get("root") ?? sessionStorage.getItem("demo-root") ?? ""
// The address bar, the history and whoever is sent the address do not keep the token; the tab does.
if (location.hash !== "") history.replaceState(null, "", location.pathname + location.search)
sessionStorage.setItem("demo-root", page.root.value)

const before = sessionStorage.getItem("demo-job")
if (before !== null) {
  known = JSON.parse(before) as KnownJob
  page.root.value = known.root
  for (const line of known.lines) showLine(line)
  showJob()
  show(page.last, String(known.last))
  const report = sessionStorage.getItem("demo-report")
  if (report !== null) showReport(report)
}

let running: Fiber.RuntimeFiber<unknown> | undefined
const connect = () => {
  const token = page.token.value
  const stopped = running === undefined ? Effect.void : Fiber.interrupt(running)
  running = Effect.runFork(Effect.zipRight(stopped, session(token)))
}
page.connect.onsubmit = (event) => {
  event.preventDefault()
  connect()
}
if (page.token.value !== "") connect()
