/** What is beside the log: what goes on, what is left of the budget, and what the job may. */
import { latest, remaining, running, spent, until } from "../model/at.js"
import type { Money, Point } from "../model/JobModel.js"
import { budgets, sentences } from "../model/lease.js"
import { clock, duration, line, money } from "../model/text.js"
import { thinned } from "../model/timeline.js"
import { entryOf, type Followed } from "../state/follow.js"
import { Badge, useNow } from "./parts.js"

const words = { step: "step", tool: "calls", input: "asks", delegate: "delegates to" } as const

export const Now = ({
  isPart,
  job,
  upTo
}: {
  readonly job: Followed
  /** Whether more has been said than has come yet. */
  readonly isPart: boolean
  readonly upTo: number
}) => {
  const spans = running(job.model, upTo, 12)
  const live = upTo >= job.model.events.length && job.model.end === undefined && !isPart
  const now = useNow(live)
  const time = live ? now : (job.model.times[upTo - 1] ?? now)
  const isBefore = upTo < job.model.events.length
  if (spans.length === 0 && !isBefore) return null
  return (
    <section class="panel" aria-labelledby="now-title">
      <h2 id="now-title">{live ? "Now" : `At ${clock(time)}`}</h2>
      <ul class="now">
        {isBefore ? (
          <li>
            <Badge status="running" />{" "}
            <bdi>{line(latest(job.model.phases, upTo)?.value.phase ?? "", 80)}</bdi>
            {[...spent(job.model, upTo)].map(([currency, amount]) => (
              <span key={currency} class="quiet">
                {" "}
                {money(amount)} {line(currency, 20)} spent
              </span>
            ))}
          </li>
        ) : null}
        {spans.map((span) => (
          <li key={`${span.lane} ${span.from}`}>
            {words[span.lane]}{" "}
            <strong>
              <bdi>{line(span.name, 120)}</bdi>
            </strong>{" "}
            <span class="quiet">for {duration(Math.max(0, time - span.startedAt))}</span>
          </li>
        ))}
      </ul>
    </section>
  )
}

const Gauge = ({
  currency,
  given,
  left,
  points
}: {
  readonly currency: string
  readonly given: number
  readonly left: number
  readonly points: ReadonlyArray<Point<Money>>
}) => {
  const from = points[0]?.at ?? 0
  const to = Math.max(from + 1, points.at(-1)?.at ?? 0)
  const drawn = points.map(
    ({ at, value }) =>
      `${(((at - from) / (to - from)) * 200).toFixed(1)},${(48 - Math.max(0, value.amount / given) * 46).toFixed(1)}`
  )
  return (
    <div class="budget" data-low={left <= given * 0.2 ? "yes" : undefined}>
      <p>
        <strong>{money(Math.abs(left))}</strong>{" "}
        {left < 0
          ? `${line(currency, 20)} more than the ${money(given)} that were given`
          : `of ${money(given)} ${line(currency, 20)} left`}
      </p>
      <meter
        min={0}
        max={given}
        low={given * 0.2}
        value={Math.max(0, left)}
        aria-label={`left of ${line(currency, 20)}`}
      />
      {points.length < 2 ? null : (
        <svg
          viewBox="0 0 200 50"
          preserveAspectRatio="none"
          role="img"
          aria-label={`${line(currency, 20)} left over time`}
        >
          <polyline points={`0,2 ${drawn.join(" ")}`} />
        </svg>
      )}
    </div>
  )
}

export const Budget = ({ job, upTo }: { readonly job: Followed; readonly upTo: number }) => {
  const given = budgets(job.subscribed.value?.lease ?? {})
  const cost = spent(job.model, upTo)
  if (given.size === 0 && cost.size === 0) return null
  const left = remaining(job.model, upTo)
  return (
    <section class="panel" aria-labelledby="budget-title">
      <h2 id="budget-title">Budget</h2>
      {[...given].map(([currency, amount]) => (
        <Gauge
          key={currency}
          currency={currency}
          given={amount}
          // What it has spent itself says it to the cent; of what others spent for it the runtime tells when it matters.
          left={Math.min(left.get(currency) ?? amount, amount - (cost.get(currency) ?? 0))}
          points={thinned(
            until(job.model.remaining, upTo).filter(({ value }) => value.currency === currency),
            200
          )}
        />
      ))}
      {[...cost]
        .filter(([currency]) => !given.has(currency))
        .map(([currency, amount]) => (
          <p key={currency}>
            <strong>{money(amount)}</strong> {line(currency, 20)} spent, without a bound
          </p>
        ))}
    </section>
  )
}

/** Patterns of a sentence that are shown before the rest is asked for. */
const most = 8

export const LeasePanel = ({ job }: { readonly job: Followed }) => {
  const entry = entryOf(job.jobId)
  const lease = job.subscribed.value?.lease ?? entry?.lease
  if (lease === undefined) return null
  return (
    <section class="panel" aria-labelledby="lease-title">
      <h2 id="lease-title">What it may</h2>
      <ul class="lease">
        {sentences(lease, job.subscribed.value?.lease_constraints, Date.now()).map(({ says, what }) => (
          <li key={says}>
            {says}{" "}
            {what.slice(0, most).map((pattern, i) => (
              <code key={i}>{pattern}</code>
            ))}
            {what.length <= most ? null : (
              <details>
                <summary>{what.length - most} more</summary>
                {what.slice(most, 1_000).map((pattern, i) => (
                  <code key={i}>{pattern}</code>
                ))}
              </details>
            )}
          </li>
        ))}
      </ul>
    </section>
  )
}
