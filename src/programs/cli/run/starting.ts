/** What commands do that start a job: they watch it to its end, and what an interruption of that does. */
import * as FileSystem from "@effect/platform/FileSystem"
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { later } from "../../../layers/client/later.js"
import { AgentNotAvailable, InvalidRequest } from "../../../protocol/Errors.js"
import type { Lease } from "../../../protocol/Lease.js"
import { didYouMean } from "../../../protocol/suggest.js"
import type { ArcpClientService, JobHandle, SubmitOptions } from "../../../services/client/ArcpClient.js"
import { fileProblem } from "../../../services/runtime/fileProblem.js"
import { TransportError } from "../../../services/transport/Transport.js"
import { whileAsked } from "../asking.js"
import type { StartFlags } from "../commands.js"
import * as Detached from "../detached.js"
import { askedAgent, exitCode, leaving } from "../exit.js"
import { askedFor } from "../lease.js"
import { attended, whileConnected, whileThere } from "../lost.js"
import { inputOf } from "../parseInput.js"
import type { Screen } from "../screen.js"
import { readStdin } from "../stdin.js"
import type { Target } from "../target.js"
import { inLine, json } from "../text.js"
import { durationMs, latest, moment } from "../time.js"
import { UsageError } from "../UsageError.js"
import { show } from "../view.js"

/** Reads `JSON`, `@FILE`, or `-` for stdin. */
export const readInput = (input: string) =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const text =
      input === "-"
        ? yield* readStdin("--input -")
        : input.startsWith("@")
          ? yield* Effect.mapError(
              fs.readFileString(input.slice(1)),
              (error) => new UsageError({ message: `--input ${input} cannot be read: ${fileProblem(error)}` })
            )
          : input
    return yield* inputOf("--input", text, `'{"root":"."}'`)
  })

/** Time in which the runtime has to take a cancel of somebody who wants to leave. */
const cancelTimeout = Duration.seconds(5)

/**
 * What an interruption does, Ctrl-C for example: the job is cancelled and seen to its end; a second one leaves. Without a
 * runtime that takes the cancel there is nothing to wait for: then the job goes on, and `arcp cancel` can end it later.
 */
const cancelled = (
  target: Target,
  client: ArcpClientService,
  job: JobHandle,
  screen: Screen,
  shown: Fiber.Fiber<void, unknown>
) =>
  Effect.gen(function* () {
    screen.print("\ncancelling; Ctrl-C again to leave at once")
    yield* job.cancel("cancelled by the user").pipe(
      whileConnected(client),
      Effect.timeoutFail({
        duration: cancelTimeout,
        onTimeout: () =>
          new TransportError({ message: `no answer within ${Duration.toSeconds(cancelTimeout)} s` })
      }),
      Effect.tapError(() => remember(target, client, job))
    )
    // What was acknowledged holds, whatever becomes of the connection.
    leaving.code = exitCode.cancelled
    // What it does until then is shown as what it did before: how it cleaned up, and how it ended.
    yield* Effect.exit(whileConnected(client)(Fiber.await(shown)))
  }).pipe(
    Effect.catchAll((error) =>
      Console.error(
        `could not cancel: ${error.message}; the job may go on, arcp cancel ${job.jobId} ends it later`
      )
    )
  )

/** Keeps what `arcp cancel` needs for a job that goes on without us. */
const remember = (target: Target, client: ArcpClientService, job: JobHandle) =>
  Effect.flatMap(client.resumeState, (resume) =>
    Effect.ignore(Detached.save(job.jobId, { url: target.url, ...resume }))
  )

/** When the job is to begin, as the flags say. */
const schedule = ({ delay, startAt }: Pick<StartFlags, "delay" | "startAt">) =>
  Effect.gen(function* () {
    if (Option.isSome(delay) && Option.isSome(startAt))
      return yield* new UsageError({ message: "choose --delay or --start-at, not both" })
    if (Option.isSome(delay)) {
      const ms = durationMs(delay.value)
      if (ms === undefined)
        return yield* new UsageError({
          message: `--delay takes 30s, 10m, 2h or 1d, not ${JSON.stringify(delay.value)}`
        })
      return later({ delay: Duration.millis(ms) })
    }
    if (Option.isNone(startAt)) return {}
    const now = yield* Clock.currentTimeMillis
    // How long ago something was is no time to begin at.
    const at = durationMs(startAt.value) === undefined ? moment(startAt.value, now) : undefined
    return at === undefined || at > latest
      ? yield* new UsageError({
          message: `--start-at takes a day (2026-01-31) or a time (2026-01-31T12:00:00+01:00), not ${JSON.stringify(startAt.value)}`
        })
      : later({ at: new Date(at) })
  })

/** Leaves a job that asks as it is: somebody may answer later, and elsewhere. */
const leftOpen = (target: Target, client: ArcpClientService, job: JobHandle) =>
  Effect.zipRight(
    remember(target, client, job),
    Console.error(`\nleft as it is: arcp answer ${job.jobId} answers it, arcp watch ${job.jobId} watches on`)
  )

/** What the flags say of a submit. `above`: a lease to which they add, when they ask for anything. */
export const optionsOf = (flags: StartFlags, above: Lease = {}) =>
  Effect.gen(function* () {
    const { leaseConstraints, leaseRequest } = yield* askedFor(flags)
    if (Option.exists(flags.timeoutSec, (seconds) => seconds < 1 || seconds > 86_400))
      return yield* new UsageError({ message: "--timeout-sec takes 1 to 86400 seconds" })
    if (Option.exists(flags.key, (key) => key.length < 1 || key.length > 256))
      return yield* new UsageError({ message: "--key takes 1 to 256 characters" })
    const options: SubmitOptions = {
      ...(yield* schedule(flags)),
      onInterrupt: "detach",
      leaseRequest: leaseRequest === undefined ? undefined : { ...above, ...leaseRequest },
      leaseConstraints,
      idempotencyKey: Option.getOrUndefined(flags.key),
      maxRuntime: Option.getOrUndefined(Option.map(flags.timeoutSec, Duration.seconds))
    }
    return options
  })

/** Says which agent there is that was probably meant. */
const meant = (client: ArcpClientService, agent: string, error: AgentNotAvailable) =>
  Effect.flatMap(
    Effect.orElseSucceed(client.agents, () => []),
    (agents) => {
      const [name = ""] = agent.split("@")
      const names = agents.map((one) => one.name)
      const { details, message } = error
      return names.includes(name)
        ? error
        : new AgentNotAvailable({ message: `${message}${didYouMean(name, names)}`, details })
    }
  )

/** Submits a job and shows it to its end, or leaves it with `--detach`. */
export const startAndShow = (
  flags: StartFlags,
  target: Target,
  client: ArcpClientService,
  {
    agent,
    input,
    options
  }: { readonly agent: string; readonly input: unknown; readonly options: SubmitOptions }
) =>
  Effect.gen(function* () {
    const job = yield* client.submit(agent, input, options).pipe(
      Effect.catchTags({
        AgentNotAvailable: (error) => meant(client, agent, error),
        InvalidRequest: ({ details, message }) =>
          new InvalidRequest({ message, details: { ...details, [askedAgent]: agent } })
      }),
      attended(client, flags)
    )
    if (flags.detach) {
      yield* Detached.save(job.jobId, { url: target.url, ...(yield* client.resumeState) })
      return yield* Console.log(
        flags.json ? json({ job_id: job.jobId, agent: job.agent }) : inLine(job.jobId)
      )
    }
    const waits = Option.match(
      Option.orElse(flags.delay, () => flags.startAt),
      {
        onNone: () => "",
        onSome: (when) => `, pending: it begins ${Option.isSome(flags.delay) ? "in" : "at"} ${when}`
      }
    )
    if (!flags.json) yield* Console.error(inLine(`${job.agent} ${job.jobId}${waits}`))
    yield* whileAsked(client, job, flags, ({ isAsking, ...asking }) =>
      Effect.gen(function* () {
        // An interruption is not its end: that is what the job comes to.
        const shown = yield* Effect.forkScoped(
          show(client, job, { ...flags, ...asking }).pipe(whileThere(client, flags))
        )
        yield* Effect.onInterrupt(Fiber.join(shown), () =>
          isAsking() ? leftOpen(target, client, job) : cancelled(target, client, job, asking.screen, shown)
        )
      }).pipe(Effect.scoped)
    )
  })
