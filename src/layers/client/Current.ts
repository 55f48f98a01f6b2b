/** What is only interesting of a job as it is now: its progress, budget and credentials, and what it asks. */
import * as Redacted from "effect/Redacted"
import type * as Stream from "effect/Stream"
import type { Body } from "../../protocol/Event.js"
import type * as Message from "../../protocol/Message.js"
import * as Vendor from "../../protocol/Vendor.js"
import type { InputRequest, JobCredential, JobEvent } from "../../services/client/ArcpClient.js"
import { Cell } from "./Cell.js"
import { remember, trim } from "./Requests.js"
import { credential, inputRequest, isNumeric } from "./typed.js"

/** What `job.accepted` and `job.subscribed` both say of a job. */
export interface About {
  readonly job_id: string
  readonly agent: string
  readonly trace_id?: string | undefined
  readonly lease: Message.Accepted["lease"]
  readonly lease_constraints?: Message.Accepted["lease_constraints"] | undefined
  readonly budget?: unknown
  readonly credentials?: unknown
  /** Of an accept. */
  readonly accepted_at?: string | undefined
  /** The same, of the answer to a subscribe. */
  readonly [Vendor.createdAt]?: string | undefined
}

/** Currencies of one budget. */
const maxCurrencies = 100

/** Questions of one job that are open: whoever has not read older ones does not see them. */
const maxOpen = 1000

/** Keeps the newest of a job. */
export class Current {
  readonly progress = new Cell<Body<"progress"> | undefined>(undefined)
  readonly budget = new Cell<ReadonlyMap<string, number>>(new Map())
  readonly credentials = new Cell<ReadonlyArray<JobCredential>>([])
  /** What the job has asked and waits for, by id. */
  readonly #asked = new Cell(new Map<unknown, InputRequest>())
  /** What it waits for no more: a replay in another session tells of it again. */
  readonly #answered = new Set<unknown>()

  accept(about: About): void {
    this.budget.set(new Map(Object.entries(Object(about.budget) as object).filter(isNumeric)))
    if (Array.isArray(about.credentials)) this.credentials.set(about.credentials.flatMap(credential))
  }

  /** What the job asks, each once for each reader, while it is open. */
  readonly inputs: Stream.Stream<InputRequest> = this.#asked.reader(() => {
    const given = new WeakSet()
    return (asked) => {
      for (const request of asked.values())
        if (!given.has(request)) {
          given.add(request)
          return [request]
        }
      return undefined
    }
  })

  /** Takes an event that is newer than all before it. */
  notice(event: JobEvent): void {
    if (event.kind === "progress") this.progress.set(event.body)
    else if (event.kind === "metric" && event.body.name === "cost.budget.remaining") {
      const { unit, value } = event.body
      // Each change is another map: of a runtime that makes up currencies they would be ever larger.
      if (unit !== undefined)
        this.budget.set(new Map([...this.budget.current, [unit, value] as const].slice(-maxCurrencies)))
    } else if (event.kind === Vendor.inputRequest) {
      const asked = this.#asked.current
      const request = inputRequest(event.body, "")
      if (!request || asked.has(request.input_id) || this.#answered.has(request.input_id)) return
      trim(asked.set(request.input_id, request), maxOpen)
      this.#asked.set(asked)
    } else if (event.kind === Vendor.inputClosed) {
      const { input_id: id } = Object(event.body) as Partial<InputRequest>
      this.#asked.current.delete(id)
      remember(this.#answered, id)
    } else if (event.kind === "status" && event.body.phase === "credential_rotated") {
      const { id, value } = event.body as { readonly id?: unknown; readonly value?: unknown }
      if (typeof value === "string")
        this.credentials.set(
          this.credentials.current.map((known) =>
            known.id === id ? { ...known, value: Redacted.make(value) } : known
          )
        )
    }
  }

  /** Nothing newer is to come. */
  end(): void {
    for (const latest of [this.progress, this.budget, this.credentials, this.#asked]) latest.end()
  }
}
