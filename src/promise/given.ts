/** What the promise client may be called with where no compiler has looked: by name, what an argument has to be. */
import * as Layer from "effect/Layer"
import * as Argument from "../protocol/Argument.js"
import type { InvalidRequest } from "../protocol/Errors.js"
import type * as Message from "../protocol/Message.js"
import type { AnswerOptions, ListOptions, ResumeState } from "../services/client/ArcpClient.js"
import type { ConnectOptions } from "./options.js"
import type { SubmitOptions, SubscribeOptions } from "./Session.js"

const {
  boolean,
  callable,
  count,
  maybe,
  object,
  options,
  positive,
  positiveDuration,
  refusal,
  signal,
  string,
  text,
  that
} = Argument

/** A text that is found by a member of what it is in: an object of the package's, or of a browser's. */
const has = (is: string, ...members: ReadonlyArray<string>): Argument.Rule =>
  that(
    is,
    (value) =>
      typeof value === "object" &&
      value !== null &&
      members.every((member) => typeof Reflect.get(value, member) === "function")
  )

const contract = has("a contract", "encodeInput")
const agent: Argument.Rule = (value, name) =>
  typeof value === "string"
    ? text(value, name)
    : that("name, name@version or a contract", (u) => contract(u, name) === undefined)(value, name)
const texts = that(
  "an object of texts",
  (value) =>
    object(value, "") === undefined && Object.values(Object(value)).every((one) => typeof one === "string")
)
const dialer = that("a layer of a dialer", Layer.isLayer)
const storage = has("a storage with getItem and setItem", "getItem", "setItem")
/** A file name, as every platform takes one. */
const path = that("a path", (value) => typeof value === "string" && value !== "" && !value.includes("\0"))

/** The names of all kinds of options, of which one is given. */
type NamesOf<Kinds> = Kinds extends unknown ? keyof Kinds : never
type Of<Name extends keyof ConnectOptions> = NonNullable<ConnectOptions[Name]>

/** What is looked at elsewhere. */
const any: Argument.Rule = () => undefined

const connecting = options<Record<NamesOf<ConnectOptions>, unknown>>({
  url: any,
  dialer: any,
  token: any,
  name: maybe(text),
  version: maybe(text),
  features: maybe(
    that("a list of texts", (value) => Array.isArray(value) && value.every((one) => typeof one === "string"))
  ),
  held: maybe(options<Of<"held">>({ events: maybe(positive), bytes: maybe(positive) })),
  resume: maybe(options<ResumeState>({ sessionId: text, resumeToken: text, lastEventSeq: count })),
  reconnectDelay: maybe(callable),
  requestTimeout: maybe(positiveDuration),
  ack: maybe(options<Of<"ack">>({ events: maybe(positive), interval: maybe(positiveDuration) })),
  state: maybe(options<Of<"state">>({ storage, key: maybe(text), onHeld: maybe(callable) })),
  signal: maybe(signal),
  headers: maybe(texts),
  ca: maybe(text),
  WebSocket: maybe(callable),
  maxHeldBytes: maybe(positive),
  maxFrameBytes: maybe(positive),
  connectTimeout: maybe(positiveDuration),
  allowInsecure: maybe(boolean)
})

const way: Argument.Rule = (value, name) => {
  const { dialer: given, url } = Object(value) as { readonly dialer?: unknown; readonly url?: unknown }
  if (given === undefined) return text(url, `${name}.url`)
  return dialer(given, `${name}.dialer`)
}

/** Returns why no session can be opened with these options. */
export const connect = (options: unknown): InvalidRequest | undefined =>
  refusal("connect", ["options", connecting, options], ["options", way, options])

const submitOptions = options<SubmitOptions>({
  leaseRequest: maybe(object),
  leaseConstraints: maybe(object),
  idempotencyKey: maybe(text),
  maxRuntime: maybe(positiveDuration),
  traceId: maybe(text),
  extensions: maybe(object),
  signal: maybe(signal)
})

/** Returns why nothing can be submitted so. */
export const submit = (to: unknown, options: unknown): InvalidRequest | undefined =>
  refusal("submit", ["agent", agent, to], ["options", submitOptions, options])

const outcome = maybe(has("a contract", "decodeOutcome"))
const subscribeOptions = options<SubscribeOptions<unknown>>({
  contract: outcome,
  history: maybe(boolean),
  fromEventSeq: maybe(count)
})

/** Returns why no job can be subscribed to so. */
export const subscribe = (jobId: unknown, options: unknown): InvalidRequest | undefined =>
  refusal("subscribe", ["jobId", text, jobId], ["options", subscribeOptions, options])

const attachOptions = options<Pick<SubscribeOptions<unknown>, "contract">>({ contract: outcome })

/** Returns why no job can be attached to so. */
export const attach = (jobId: unknown, options: unknown): InvalidRequest | undefined =>
  refusal("attach", ["jobId", text, jobId], ["options", attachOptions, options])

/** A name that the runtime does not know would filter nothing out. What is said under the others is its to judge. */
const filtering = options<NonNullable<Message.ListJobs["filter"]>>({
  status: any,
  agent: any,
  created_after: any,
  created_before: any,
  parent_job_id: any
})

const listOptions = options<ListOptions>({ limit: maybe(positive) })

/** Returns why nothing can be listed so. */
export const list = (filter: unknown, options: unknown): InvalidRequest | undefined =>
  refusal("list", ["filter", maybe(filtering), filter], ["options", maybe(listOptions), options])

/** Returns why a job cannot be cancelled so. */
export const cancel = (jobId: unknown, reason: unknown): InvalidRequest | undefined =>
  refusal("cancel", ["jobId", text, jobId], ["reason", maybe(string), reason])

const answerOptions = options<AnswerOptions>({ about: maybe(text) })

/** Returns why a question cannot be answered so. */
export const answer = (
  jobId: unknown,
  inputId: unknown,
  value: unknown,
  options: unknown
): InvalidRequest | undefined =>
  refusal(
    "answer",
    ["jobId", text, jobId],
    ["inputId", text, inputId],
    ["value", that("JSON", (value) => value !== undefined), value],
    ["options", maybe(answerOptions), options]
  )

/** Returns why a result cannot be saved there. */
export const saveResult = (to: unknown): InvalidRequest | undefined =>
  refusal("saveResult", ["path", path, to])

/** Returns why there are no values of such events. */
export const of = (event: unknown): InvalidRequest | undefined =>
  refusal("of", ["event", has("an event of Event.vendor", "from"), event])
