/**
 * What a handler may call a method of its job with where no compiler has looked: by name what an argument has to be, before
 * anything is done with it. Bodies of events are not looked at here: they are checked as they are written.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Argument from "../../protocol/Argument.js"
import type { InvalidRequest } from "../../protocol/Errors.js"
import type { VendorKind } from "../../services/agents/VendorEvent.js"
import type { InputOptions } from "../../services/jobs/Input.js"
import type { DelegateOptions, EmitOptions, JobService, StepOptions } from "../../services/jobs/Job.js"
import type { LeaseService } from "../../services/lease/Lease.js"

const { callable, count, duration, fields, finiteDuration, maybe, object, options, refusal } = Argument
const { string, text, that } = Argument

const effect = that("an Effect", Effect.isEffect)
/** Encoders and the like, which are made by this package, or by Effect. */
const isMade = (value: unknown, member: string): boolean =>
  (typeof value === "object" || typeof value === "function") &&
  value !== null &&
  typeof Reflect.get(value, member) === "function"
const agent = that(
  "name, name@version or a contract",
  (value) => typeof value === "string" || isMade(value, "encodeInput")
)
const event = that(
  "a kind x-vendor.<vendor>.<name>, or an event of Event.vendor",
  (value) => typeof value === "string" || isMade(value, "encode")
)
const encoding = maybe(that('"utf8" or "base64"', (value) => value === "utf8" || value === "base64"))
const costs = fields({ currency: text, name: maybe(text), dimensions: maybe(object) })
const any: Argument.Rule = () => undefined
const emitOptions = maybe(options<EmitOptions>({ key: maybe(text) }))
const schema = maybe(that("a Schema", Schema.isSchema))
const stepOptions = maybe(
  options<StepOptions<unknown, unknown, unknown, unknown>>({
    output: schema,
    error: schema,
    retry: any,
    timeout: maybe(duration),
    compensate: maybe(callable)
  })
)
const inputOptions = options<InputOptions<unknown, unknown>>({
  prompt: string,
  schema,
  choices: maybe(that("a list", Array.isArray)),
  about: any,
  expiresIn: maybe(duration),
  tellValue: any
})
const delegateOptions = maybe(
  options<DelegateOptions>({
    key: maybe(text),
    retries: maybe(count),
    lease: maybe(object),
    constraints: maybe(object)
  })
)

/** Dies of a refusal, where a method's type names no `InvalidRequest`: whoever has types is never refused. */
const orDie = <A, E, R>(
  refused: InvalidRequest | undefined,
  call: () => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> => (refused === undefined ? call() : Effect.die(refused))

const orFail = <A, E, R>(
  refused: InvalidRequest | undefined,
  call: () => Effect.Effect<A, E, R>
): Effect.Effect<A, E | InvalidRequest, R> => (refused === undefined ? call() : refused)

/** Returns the lease of a job that looks at what it is asked. */
export const askedOf = (lease: LeaseService): LeaseService => ({
  ...lease,
  authorize: (capability, target, options) =>
    orDie(
      refusal(
        "authorize",
        ["capability", text, capability],
        ["target", string, target],
        ["options", maybe(fields({ callId: maybe(text) })), options]
      ),
      () => lease.authorize(capability, target, options)
    ),
  spend: (cost) => orFail(refusal("spend", ["cost", costs, cost]), () => lease.spend(cost))
})

/** Returns the job of a handler that looks at what it is called with. */
export const calledWith = (job: JobService): JobService => {
  const { delegate, emit, hold, input, openResult, rotateCredential, sleep, step, streamResult } = job
  const checking: Partial<JobService> = {
    emit: ((kind: VendorKind, value: unknown, options?: EmitOptions) =>
      orFail(refusal("emit", ["event", event, kind], ["options", emitOptions, options]), () =>
        emit(kind, value, options)
      )) as JobService["emit"],
    step: (key, body, options) =>
      orDie(
        refusal("step", ["key", text, key], ["effect", effect, body], ["options", stepOptions, options]),
        () => step(key, body, options)
      ),
    sleep: (key, length) =>
      orDie(refusal("sleep", ["key", text, key], ["duration", finiteDuration, length]), () =>
        sleep(key, length)
      ),
    hold: (body) => orDie(refusal("hold", ["effect", effect, body]), () => hold(body)),
    input: (key, options) =>
      orDie(refusal("input", ["key", text, key], ["options", inputOptions, options]), () =>
        input(key, options)
      ),
    openResult: (given) =>
      orFail(refusal("openResult", ["encoding", encoding, given]), () => openResult(given)),
    streamResult: (data, given, options) =>
      orDie(refusal("streamResult", ["encoding", encoding, given], ["options", maybe(object), options]), () =>
        streamResult(data, given, options)
      ),
    delegate: ((to: string, body: unknown, options: Parameters<JobService["delegate"]>[2]) =>
      orFail(refusal("delegate", ["agent", agent, to], ["options", delegateOptions, options]), () =>
        delegate(to, body, options)
      )) as JobService["delegate"],
    rotateCredential: (id) =>
      orFail(refusal("rotateCredential", ["id", text, id]), () => rotateCredential(id))
  }
  return Object.assign(job, checking)
}
