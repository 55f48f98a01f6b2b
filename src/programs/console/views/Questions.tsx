/** What a job asks and waits for, with a form for the answer. */
import { useMemo, useState } from "preact/hooks"
import { waiting } from "../model/at.js"
import type { Question } from "../model/JobModel.js"
import { type Field, fieldOf, initial, missing } from "../model/schemaForm.js"
import { count, moment, optionName, plain } from "../model/text.js"
import { announce } from "../state/announcing.js"
import { client, run } from "../state/connection.js"
import type { Followed } from "../state/follow.js"
import { JsonTree } from "./JsonTree.js"
import { Failed } from "./parts.js"
import { SchemaForm } from "./SchemaForm.js"

/** Values of a schema that have a button each, beyond which they are a list. */
const mostButtons = 8

const One = ({
  job,
  open,
  question
}: {
  readonly job: Followed
  readonly question: Question
  readonly open: boolean
}) => {
  const field = useMemo(
    (): Field =>
      question.choices === undefined
        ? fieldOf(question.schema ?? {})
        : { type: "choice", choices: question.choices },
    [question]
  )
  const [value, setValue] = useState<unknown>(() => initial(field, true))
  const [error, setError] = useState<unknown>(undefined)
  const [sent, setSent] = useState(false)
  const answer = (given: unknown) => {
    const made = client.peek()
    if (made === undefined) return
    setError(undefined)
    setSent(true)
    run(made.answer(job.jobId, question.inputId, given, { about: question.about?.sha256 })).then(
      () => {
        announce("the answer is stored")
      },
      (failure: unknown) => {
        setError(failure)
        setSent(false)
      }
    )
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
            if (lacks.length === 0) answer(value)
          }}
        >
          <SchemaForm label="Answer" of={field} value={value} onChange={setValue} />
          <div class="row">
            <button type="submit" class="primary" disabled={sent || lacks.length > 0}>
              {sent ? "sent" : "Answer"}
            </button>
            <span class="quiet">{lacks[0]}</span>
          </div>
        </form>
      ) : (
        <div class="row">
          {choices.map((choice, i) => (
            <button key={i} type="button" disabled={sent} onClick={() => answer(choice)}>
              <bdi>{optionName(choice, 80)}</bdi>
            </button>
          ))}
        </div>
      )}
      <Failed error={error} />
    </section>
  )
}

/** Questions that are shown at once, the oldest first. */
const mostShown = 20

export const Questions = ({ job, upTo }: { readonly job: Followed; readonly upTo: number }) => {
  const asked = waiting(job.model, upTo)
  return (
    <>
      {asked.slice(0, mostShown).map((question) => (
        <One key={question.inputId} job={job} question={question} open={question.to === undefined} />
      ))}
      {asked.length > mostShown ? (
        <p class="quiet">{count(asked.length - mostShown)} more wait for an answer after these.</p>
      ) : null}
    </>
  )
}
