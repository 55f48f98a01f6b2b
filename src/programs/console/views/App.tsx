/** The page: where one is, what the connection does, and the view of the address. */
import { useEffect, useRef } from "preact/hooks"
import { noFilters, type Route } from "../model/route.js"
import { line, plain } from "../model/text.js"
import { said } from "../state/announcing.js"
import { logout } from "../state/connection.js"
import { loads, watch } from "../state/loads.js"
import { route } from "../state/navigation.js"
import { phase } from "../state/presence.js"
import { principal } from "../state/whoami.js"
import { BroughtLogin } from "./Brought.js"
import { JobView } from "./Job.js"
import { Jobs } from "./Jobs.js"
import { Login } from "./Login.js"
import { Outcomes } from "./Outcomes.js"
import { Go } from "./parts.js"
import { Runtime } from "./Runtime.js"
import { Submit } from "./Submit.js"

const places: ReadonlyArray<readonly [string, Route, ReadonlyArray<Route["view"]>]> = [
  ["Jobs", { view: "jobs", filters: noFilters }, ["jobs", "job"]],
  ["Submit", { view: "submit", agent: "", again: "" }, ["submit"]],
  ["Runtime", { view: "runtime" }, ["runtime"]]
]

const Connection = () => {
  const { value } = phase
  const text =
    value._tag === "Connected" ? "connected" : value._tag === "Connecting" ? "connecting" : "reconnecting"
  return (
    <p
      class="connection"
      role="status"
      data-state={value._tag}
      title={value._tag === "Away" ? plain(value.reason, 300) : undefined}
    >
      <span class="lamp" aria-hidden="true" /> {text}
    </p>
  )
}

/** As whom one is logged in. */
const Who = () =>
  principal.value === undefined ? null : (
    <p class="who" title={`logged in as ${line(principal.value, 300)}`}>
      <span class="offscreen">logged in as </span>
      <bdi>{line(principal.value, 300)}</bdi>
    </p>
  )

const View = () => {
  const at = route.value
  switch (at.view) {
    case "jobs":
      return <Jobs filters={at.filters} />
    case "job":
      return <JobView key={at.jobId} jobId={at.jobId} tab={at.tab} event={at.event} />
    case "submit":
      return <Submit key={`${at.agent} ${at.again}`} agent={at.agent} again={at.again} />
    case "runtime":
      return <Runtime />
  }
}

/** Says why the agents that were saved last are not those that run. */
const NotLoaded = () => {
  const { problem, times } = loads.value
  return (
    <div role="alert">
      {problem === "" ? null : (
        <section class="problem notice" aria-label="the agents">
          <p>
            {times === 0
              ? "The agents do not load, so there are none yet. They are loaded again when the file is saved."
              : "The agents that were saved last do not load: those before go on. They are loaded again when the file is saved."}
          </p>
          <pre>{plain(problem, 4_000)}</pre>
        </section>
      )}
    </div>
  )
}

/** What is said to those who do not see it: a new element each time, or the same again would not be heard. */
const Announced = () => {
  const { text, times } = said.value
  return (
    <div class="offscreen" role="status" aria-live="polite">
      {times === 0 ? null : <p key={times}>{text}</p>}
    </div>
  )
}

const titles: Readonly<Record<Route["view"], string>> = {
  jobs: "Jobs",
  job: "Job",
  submit: "Submit",
  runtime: "Runtime"
}

export const App = () => {
  const main = useRef<HTMLElement>(null)
  const at = route.value
  const place = at.view === "job" ? at.jobId : at.view
  const first = useRef(true)
  const isOut = phase.value._tag === "LoggedOut"
  const title = isOut ? "Log in" : at.view === "job" ? plain(at.jobId, 40) : titles[at.view]
  useEffect(() => {
    document.title = `${title} · arcp console`
  }, [title])
  useEffect(() => {
    // Whoever reads with the keyboard goes on in what is new.
    if (!first.current) main.current?.focus({ preventScroll: true })
    first.current = false
    scrollTo(0, 0)
  }, [place])
  useEffect(() => (isOut ? undefined : watch()), [isOut])
  if (isOut) return <Login />
  return (
    <>
      <button type="button" class="skip" onClick={() => main.current?.focus()}>
        to the content
      </button>
      <header class="top">
        <span class="brand" aria-hidden="true">
          arcp
        </span>
        <nav aria-label="console">
          {places.map(([name, to, views]) => (
            <Go key={name} to={to} aria-current={views.includes(at.view) ? "page" : undefined}>
              {name}
            </Go>
          ))}
        </nav>
        <Connection />
        <Who />
        <button type="button" class="small" onClick={logout}>
          Log out
        </button>
      </header>
      <main id="main" ref={main} tabIndex={-1}>
        <BroughtLogin />
        <NotLoaded />
        <Outcomes />
        <View />
      </main>
      <Announced />
    </>
  )
}
