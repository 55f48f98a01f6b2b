/** What has become of submits, for whoever has left their forms. */
import { line } from "../model/text.js"
import { dismiss, type Outcome, outcomes } from "../state/submits.js"
import { Failed, Go } from "./parts.js"

const One = ({ outcome }: { readonly outcome: Outcome }) => (
  <section class="panel outcome" aria-label="a submit">
    <p>
      The job for{" "}
      <strong>
        <bdi>{line(outcome.agent, 80)}</bdi>
      </strong>{" "}
      {"jobId" in outcome.of ? (
        <>
          is accepted:{" "}
          <Go to={{ view: "job", jobId: outcome.of.jobId, tab: "", event: undefined }}>
            {line(outcome.of.jobId, 60)}
          </Go>
        </>
      ) : (
        "was not accepted."
      )}
    </p>
    {"error" in outcome.of ? <Failed error={outcome.of.error} isSaid /> : null}
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
      <One key={"jobId" in outcome.of ? outcome.of.jobId : i} outcome={outcome} />
    ))}
  </>
)
