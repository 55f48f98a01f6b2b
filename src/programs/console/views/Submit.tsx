/** A job that is about to be submitted: to whom, with what, and what it may. */
import * as Effect from "effect/Effect"
import { useEffect, useMemo, useRef, useState } from "preact/hooks"
import * as Features from "../../../protocol/Features.js"
import type { AgentEntry } from "../../../protocol/Message.js"
import { asCode, asCommand, durationMs, type Submission } from "../model/copies.js"
import { fieldOf, initial, missing, unsendable, unshown } from "../model/schemaForm.js"
import { counted, line, plain } from "../model/text.js"
import { field, textIn } from "../model/values.js"
import { announce } from "../state/announcing.js"
import { client, run } from "../state/connection.js"
import { follow } from "../state/follow.js"
import { lookAgain } from "../state/jobs.js"
import { loads } from "../state/loads.js"
import { go } from "../state/navigation.js"
import { url } from "../state/places.js"
import { connections, dropped } from "../state/presence.js"
import { type Allowed, LeaseEditor, leaseOf, problemOf, rowsOf } from "./LeaseEditor.js"
import { useOutcome } from "./Outcomes.js"
import { Copy, Failed } from "./parts.js"
import { inputOf } from "./Result.js"
import { SchemaForm } from "./SchemaForm.js"

interface Hosted {
  readonly ref: string
  readonly description: string
  readonly schema: unknown
  readonly examples: ReadonlyArray<unknown>
}

const hostedOf = (entry: AgentEntry): ReadonlyArray<Hosted> => {
  const described = field(entry, Features.describedAgents)
  return entry.versions.map((version) => {
    const about = field(described, version)
    const examples = field(about, "examples")
    return {
      ref: `${entry.name}@${version}`,
      description: textIn(about, "description") ?? "",
      schema: field(about, "input_schema"),
      examples: Array.isArray(examples) ? examples : []
    }
  })
}

const useAgents = (): ReadonlyArray<Hosted> => {
  const made = client.value
  const connection = connections.value
  // Those of the session before, until there is another: a form that is being filled in stays.
  const known = useRef<ReadonlyArray<Hosted>>([])
  return useMemo(() => {
    if (made !== undefined) known.current = Effect.runSync(made.agents).flatMap(hostedOf)
    return known.current
  }, [made, connection])
}

/** The rest of what is said of a submit. */
interface Terms {
  readonly rows: ReadonlyArray<Allowed>
  readonly expiresIn: string
  readonly maxRuntimeSec: string
  readonly key: string
}

const TermsForm = ({
  onChange,
  terms
}: {
  readonly terms: Terms
  readonly onChange: (terms: Terms) => void
}) => (
  <>
    <LeaseEditor
      rows={terms.rows}
      problem={problemOf(terms.rows)}
      onChange={(rows) => onChange({ ...terms, rows })}
    />
    <details>
      <summary>More</summary>
      <div class="field">
        <label for="expires">The lease holds for</label>
        <input
          id="expires"
          placeholder="30s, 10m, 2h or 1d"
          value={terms.expiresIn}
          onInput={(event) => onChange({ ...terms, expiresIn: event.currentTarget.value })}
        />
      </div>
      <div class="field">
        <label for="runtime">It may run for (seconds)</label>
        <input
          id="runtime"
          inputMode="numeric"
          value={terms.maxRuntimeSec}
          onInput={(event) => onChange({ ...terms, maxRuntimeSec: event.currentTarget.value })}
        />
      </div>
      <div class="field">
        <label for="key">Idempotency key: the same key starts one job</label>
        <input
          id="key"
          maxLength={256}
          value={terms.key}
          onInput={(event) => onChange({ ...terms, key: event.currentTarget.value })}
        />
      </div>
    </details>
  </>
)

const submissionOf = (agent: string, input: unknown, terms: Terms): Submission => ({
  agent,
  input: input ?? null,
  lease: leaseOf(terms.rows),
  expiresIn: terms.expiresIn.trim(),
  maxRuntimeSec: terms.maxRuntimeSec.trim() === "" ? undefined : Number(terms.maxRuntimeSec),
  key: terms.key
})

/** The longest time that a job may be given (§7.1): a day. */
const mostRuntimeSec = 86_400

/** What is wrong with the terms, as sentences. */
const wrong = ({ expiresIn, maxRuntimeSec, rows }: Terms): ReadonlyArray<string> => {
  const problem = problemOf(rows)
  const runtime = maxRuntimeSec.trim()
  return [
    ...(problem === undefined ? [] : [`the lease: ${problem}`]),
    ...(expiresIn.trim() === "" || durationMs(expiresIn) !== undefined
      ? []
      : ["the lease holds for 30s, 10m, 2h or 1d"]),
    ...(runtime === "" || (/^[1-9]\d{0,4}$/.test(runtime) && Number(runtime) <= mostRuntimeSec)
      ? []
      : [`it may run for 1 to ${mostRuntimeSec} seconds`])
  ]
}

const submit = (submission: Submission) => {
  const made = client.peek()
  if (made === undefined) return Promise.reject(new Error("there is no connection"))
  const ms = durationMs(submission.expiresIn)
  return run(
    Effect.scoped(
      Effect.map(
        made.submit(submission.agent, submission.input, {
          leaseRequest: submission.lease,
          leaseConstraints:
            ms === undefined ? undefined : { expires_at: new Date(Date.now() + ms).toISOString() },
          idempotencyKey: submission.key === "" ? undefined : submission.key,
          maxRuntime:
            submission.maxRuntimeSec === undefined ? undefined : `${submission.maxRuntimeSec} seconds`,
          onInterrupt: "detach"
        }),
        ({ jobId }) => jobId
      )
    )
  )
}

const noTerms: Terms = { rows: [], expiresIn: "", maxRuntimeSec: "", key: "" }

/** Takes over from an earlier job, once it is known. */
const useEarlier = (
  again: string,
  take: (input: { readonly value: unknown } | undefined, rows: ReadonlyArray<Allowed>) => void
) => {
  const made = client.value
  const job = useMemo(() => (again === "" || made === undefined ? undefined : follow(again)), [again, made])
  const subscribed = job?.subscribed.value
  // Once: it is followed anew after a lost session, and what was changed since stays.
  const isTaken = useRef(false)
  useEffect(() => {
    if (job === undefined || subscribed === undefined || isTaken.current) return
    isTaken.current = true
    take(inputOf(job), rowsOf(subscribed.lease))
  }, [subscribed])
  return job === undefined ? undefined : { known: subscribed !== undefined, input: inputOf(job) }
}

const Form = ({ again, chosen }: { readonly chosen: Hosted; readonly again: string }) => {
  const of = useMemo(() => fieldOf(chosen.schema ?? {}), [chosen.schema])
  const [input, setInput] = useState<unknown>(() =>
    of.type === "json" ? chosen.examples[0] : initial(of, true)
  )
  const [asJson, setAsJson] = useState(false)
  const [filled, setFilled] = useState(0)
  const [terms, setTerms] = useState(noTerms)
  const [error, setError] = useState<unknown>(undefined)
  const [sending, setSending] = useState(false)
  const fill = (value: unknown) => {
    setInput(value)
    setFilled((n) => n + 1)
  }
  const earlier = useEarlier(again, (before, rows) => {
    if (before !== undefined) fill(before.value)
    setTerms({ ...noTerms, rows })
  })
  const shown = asJson ? ({ type: "json" } as const) : of
  const lacks = [...missing(shown, input), ...wrong(terms)]
  const isWrong = lacks.length > 0
  const hidden = unshown(shown, input)
  const come = useOutcome()
  const send = (event: Event) => {
    event.preventDefault()
    if (isWrong || sending) return
    setSending(true)
    setError(undefined)
    submit(submissionOf(chosen.ref, input, terms)).then(
      (jobId) => {
        lookAgain()
        const here = () => {
          announce("the job is accepted")
          go({ view: "job", jobId, tab: "", event: undefined })
        }
        come(here, { says: `The job for ${chosen.ref} is accepted:`, jobId })
      },
      (failure: unknown) => {
        const here = () => {
          setError(failure)
          setSending(false)
        }
        come(here, { says: `The job for ${chosen.ref} is not accepted.`, error: failure })
      }
    )
  }
  return (
    <form class="panel" onSubmit={send}>
      {chosen.description === "" ? null : (
        <p class="description">
          <bdi>{plain(chosen.description, 4_000)}</bdi>
        </p>
      )}
      {earlier === undefined || (earlier.known && earlier.input !== undefined) ? null : (
        <p class="quiet">
          {earlier.known
            ? "The runtime does not tell the input of the earlier job; the lease is the same."
            : "Reading the earlier job …"}
        </p>
      )}
      <fieldset>
        <legend>Input</legend>
        <div class="row">
          {of.type === "json" ? null : (
            <button
              type="button"
              class="small"
              aria-pressed={asJson}
              // A form cannot show it.
              disabled={unsendable(input).length > 0}
              onClick={() => setAsJson(!asJson)}
            >
              as JSON
            </button>
          )}
          {chosen.examples.slice(0, 6).map((example, i) => (
            <button key={i} type="button" class="small" onClick={() => fill(example)}>
              example {i + 1}
            </button>
          ))}
        </div>
        <SchemaForm key={`${filled} ${asJson}`} label="Input" of={shown} value={input} onChange={setInput} />
        {hidden.length === 0 ? null : (
          <p class="quiet">
            Sent with it, and in no field: {counted(hidden.length, "more member")} (
            <bdi>{line(hidden.slice(0, 5).join(", "), 200)}</bdi>). Look at it <em>as JSON</em>.
          </p>
        )}
      </fieldset>
      <TermsForm terms={terms} onChange={setTerms} />
      <Failed error={error} />
      <div class="row">
        <button type="submit" class="primary" disabled={sending || isWrong}>
          {sending ? "sending …" : "Submit"}
        </button>
        <Copy
          label="copy as command"
          disabled={isWrong}
          text={() => asCommand(submissionOf(chosen.ref, input, terms), url)}
        />
        <Copy
          label="copy as code"
          disabled={isWrong}
          text={() => asCode(submissionOf(chosen.ref, input, terms), url)}
        />
        <span class="quiet" role="status">
          {line(lacks[0] ?? "", 300)}
        </span>
      </div>
    </form>
  )
}

/** Has the runtime tell its agents, which it does with each connection. */
const lookForAgents = (): void => {
  const made = client.peek()
  if (made === undefined) return
  dropped()
  Effect.runFork(made.dropTransport)
}

export const Submit = ({ again, agent }: { readonly agent: string; readonly again: string }) => {
  const agents = useAgents()
  const { times } = loads.value
  const loadedBefore = useRef(times)
  useEffect(() => {
    if (loadedBefore.current !== undefined && loadedBefore.current !== times) lookForAgents()
    loadedBefore.current = times
  }, [times])
  const chosen =
    agents.find(({ ref }) => ref === agent || ref.split("@")[0] === agent) ??
    (agent === "" ? agents[0] : undefined)
  return (
    <>
      <div class="title">
        <h1>Submit a job</h1>
        <button
          type="button"
          class="small"
          title="The agents are told with each connection: connects again"
          onClick={lookForAgents}
        >
          look for new agents
        </button>
      </div>
      <div class="field">
        <label for="agent">Agent</label>
        <select
          id="agent"
          value={chosen?.ref ?? ""}
          onChange={(event) => go({ view: "submit", agent: event.currentTarget.value, again: "" }, "replace")}
        >
          {chosen === undefined ? <option value="">{line(agent, 80)}: not hosted here</option> : null}
          {agents.map(({ ref }) => (
            <option key={ref} value={ref}>
              {line(ref, 100)}
            </option>
          ))}
        </select>
      </div>
      {chosen === undefined ? (
        <p class="empty">
          {agents.length === 0
            ? "The runtime hosts no agent that you may use."
            : "This runtime does not host that agent; choose another."}
        </p>
      ) : (
        <Form key={chosen.ref} chosen={chosen} again={again} />
      )}
    </>
  )
}
