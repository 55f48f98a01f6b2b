/** What has become of what was asked for, for whoever has left the view where that was. */
import { useEffect, useRef } from "preact/hooks"
import { line } from "../model/text.js"
import { dismiss, type Outcome, outcomes, tell } from "../state/outcomes.js"
import { Failed, Go } from "./parts.js"

/** Returns what says something in a view as long as that is there, and above all views after that. */
export const useOutcome = () => {
  const isThere = useRef(true)
  useEffect(
    () => () => {
      isThere.current = false
    },
    []
  )
  return (here: () => void, outcome: Outcome): void => (isThere.current ? here() : tell(outcome))
}

const One = ({ outcome }: { readonly outcome: Outcome }) => (
  <section class="panel outcome" aria-label="what has become of it">
    <p>
      <bdi>{line(outcome.says, 200)}</bdi>{" "}
      {outcome.jobId === undefined ? null : (
        <Go to={{ view: "job", jobId: outcome.jobId, tab: "", event: undefined }}>
          {line(outcome.jobId, 60)}
        </Go>
      )}
    </p>
    <Failed error={outcome.error} doing={outcome.doing} isSaid />
    <div class="row">
      <button type="button" class="small" onClick={() => dismiss(outcome)}>
        Dismiss
      </button>
    </div>
  </section>
)

export const Outcomes = () => (
  <>
    {outcomes.value.map((outcome, i) => (
      <One key={i} outcome={outcome} />
    ))}
  </>
)
