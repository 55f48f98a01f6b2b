/** What a job asks and waits for, with a form for the answer. */
import { useMemo, useState } from "preact/hooks"
import { waiting } from "../model/at.js"
import type { Question } from "../model/JobModel.js"
import { type Field, fieldOf, initial, missing } from "../model/schemaForm.js"
import { count, line, moment, optionName, plain } from "../model/text.js"
import { announce } from "../state/announcing.js"
import { client, run } from "../state/connection.js"
import type { Followed } from "../state/follow.js"
import { JsonTree } from "./JsonTree.js"
import { useOutcome } from "./Outcomes.js"
import { Failed } from "./parts.js"
import { SchemaForm } from "./SchemaForm.js"

/** Values of a schema that have a button each, beyond which they are a list. */
const mostButtons = 8

/** An answer that was given here and not taken. The question may be gone by then, since others answer it, too. */
interface Refused {
  readonly question: Question
  readonly given: unknown
  readonly error: unknown
}

/** What somebody has begun to answer with, and whether it is on its way. */
interface Draft {
  readonly value?: unknown
  readonly isSent?: boolean
}

const One = ({
  answer,
  draft,
  error,
  onDraft,
  open,
  question
}: {
  readonly question: Question
  readonly draft: Draft
  readonly onDraft: (change: Draft) => void
  readonly open: boolean
  readonly error: unknown
  /** Settles when the answer is stored, or is not taken. */
  readonly answer: (given: unknown) => Promise<void>
}) => {
  const field = useMemo(
    (): Field =>
      question.choices === undefined
        ? fieldOf(question.schema ?? {})
        : { type: "choice", choices: question.choices },
    [question]
  )
  const sent = draft.isSent === true
  const value = "value" in draft ? draft.value : initial(field, true)
  const send = (given: unknown) => {
    onDraft({ isSent: true })
    answer(given).catch(() => onDraft({ isSent: false }))
  }
  // Of what was not touched nobody can tell that it was meant.
  const lacks = value === undefined ? ["answer is missing"] : missing(field, value, "answer")
  // A choice is an answer.
  const choices = field.type === "choice" && field.choices.length <= mostButtons ? field.choices : undefined
  return (
    <section class="panel question" aria-label="question of the job">
      <p class="prompt">
        <bdi>{plain(question.prompt, 4_000)}</bdi>
      </p>
      {question.about === undefined ? null : (
        <div>
          <p class="quiet">It is about this:</p>
          <JsonTree label="what it is about" value={question.about.value} />
        </div>
      )}
      {question.expiresAt === undefined ? null : (
        <p class="quiet">It waits until {moment(Date.parse(question.expiresAt), Date.now())}.</p>
      )}
      {!open ? (
        <p class="quiet">At this event nobody had answered yet.</p>
      ) : choices === undefined ? (
        <form
          onSubmit={(event) => {
            event.preventDefault()
            if (lacks.length === 0) send(value)
          }}
        >
          <SchemaForm label="Answer" of={field} value={value} onChange={(next) => onDraft({ value: next })} />
          <div class="row">
            <button type="submit" class="primary" data-settles disabled={sent || lacks.length > 0}>
              {sent ? "sent" : "Answer"}
            </button>
            <span class="quiet">{lacks[0]}</span>
          </div>
        </form>
      ) : (
        <div class="row choices">
          {choices.map((choice, i) => (
            <button key={i} type="button" data-settles disabled={sent} onClick={() => send(choice)}>
              <bdi>{optionName(choice, 80)}</bdi>
            </button>
          ))}
        </div>
      )}
      <Failed error={error} />
    </section>
  )
}

/** An answer that was not taken, of a question that is not there any more. */
const NotTaken = ({
  dismiss,
  refused: { error, given, question }
}: {
  readonly refused: Refused
  readonly dismiss: () => void
}) => (
  <section class="panel" aria-label="answer that was not taken">
    <p>
      Your answer{" "}
      <strong>
        <bdi>{optionName(given, 80)}</bdi>
      </strong>{" "}
      was not taken. The question was: <bdi>{line(question.prompt, 300)}</bdi>
    </p>
    <Failed error={error} />
    <div class="row">
      <button type="button" class="small" onClick={dismiss}>
        Dismiss
      </button>
    </div>
  </section>
)

/** One may be asked again under its name, as when nobody has answered in time. */
const askedAt = ({ from, inputId }: Question) => `${inputId} ${from}`

/** Questions that are shown at once, the oldest first. */
const mostShown = 20

export const Questions = ({
  isPart,
  job,
  upTo
}: {
  readonly job: Followed
  /** Whether more has been said than has come yet, as that a question was answered. */
  readonly isPart: boolean
  readonly upTo: number
}) => {
  const [refused, setRefused] = useState<ReadonlyArray<Refused>>([])
  // Kept while the question is not shown, as at an event before it.
  const [drafts, setDrafts] = useState<ReadonlyMap<string, Draft>>(new Map())
  const keep = (name: string, change: Draft) =>
    setDrafts((before) => new Map(before).set(name, { ...before.get(name), ...change }))
  const come = useOutcome()
  const asked = waiting(job.model, upTo)
  const shown = asked.slice(0, mostShown)
  const forget = (inputId: string) =>
    setRefused((before) => before.filter(({ question }) => question.inputId !== inputId))
  const answer = async (question: Question, given: unknown) => {
    const made = client.peek()
    forget(question.inputId)
    try {
      if (made === undefined) throw new Error("there is no connection")
      await run(made.answer(job.jobId, question.inputId, given, { about: question.about?.sha256 }))
    } catch (error) {
      come(() => setRefused((before) => [...before, { question, given, error }]), {
        says: `The answer ${optionName(given, 80)} was not taken by`,
        jobId: job.jobId,
        error
      })
      throw error
    }
    announce("the answer is stored")
  }
  return (
    <>
      {refused
        .filter(({ question }) => !shown.some(({ inputId }) => inputId === question.inputId))
        .map((one) => (
          <NotTaken key={one.question.inputId} refused={one} dismiss={() => forget(one.question.inputId)} />
        ))}
      {shown.map((question) => (
        <One
          key={askedAt(question)}
          question={question}
          draft={drafts.get(askedAt(question)) ?? {}}
          onDraft={(change) => keep(askedAt(question), change)}
          open={question.to === undefined && !isPart}
          error={refused.find((one) => one.question.inputId === question.inputId)?.error}
          answer={(given) => answer(question, given)}
        />
      ))}
      {asked.length > mostShown ? (
        <p class="quiet">{count(asked.length - mostShown)} more wait for an answer after these.</p>
      ) : null}
    </>
  )
}
