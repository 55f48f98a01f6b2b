/** `arcp serve --webhook`: who is told of jobs that wait, have ended, or are parked. */
import { FileSystem } from "@effect/platform/FileSystem"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as HooksWebhook from "../../../layers/jobs/HooksWebhook.js"
import { Hooks } from "../../../services/jobs/Hooks.js"
import { fileProblem } from "../../../services/runtime/fileProblem.js"
import type { ServeFlags } from "../serve.js"
import { UsageError } from "../UsageError.js"

const make = 'make one: echo "whsec_$(openssl rand -base64 32)"'

/** The secrets of the file, one a line; else the one of the environment, which arguments would show to other users. */
const secretsOf = ({ webhookSecretFile }: Pick<ServeFlags, "webhookSecretFile">) =>
  Effect.gen(function* () {
    if (Option.isNone(webhookSecretFile))
      return Option.toArray(yield* Config.option(Config.redacted("ARCP_WEBHOOK_SECRET")))
    const file = webhookSecretFile.value
    const text = yield* Effect.mapError(
      Effect.flatMap(FileSystem, (fs) => fs.readFileString(file)),
      (error) =>
        new UsageError({ message: `--webhook-secret-file ${file} cannot be read: ${fileProblem(error)}` })
    )
    return text
      .split("\n")
      .map((line) => line.trim())
      .filter((line) => line !== "")
      .map((line) => Redacted.make(line))
  })

/** Returns the hooks that the flags ask for, if they do. */
export const webhookOf = (flags: ServeFlags) =>
  Effect.gen(function* () {
    if (Option.isNone(flags.webhook)) {
      if (Option.isSome(flags.webhookSecretFile) || flags.webhookEvent.length > 0 || flags.webhookValues)
        return yield* new UsageError({
          message: "--webhook-secret-file, --webhook-event and --webhook-values need --webhook URL"
        })
      return undefined
    }
    const secrets = yield* secretsOf(flags)
    const source = Option.match(flags.webhookSecretFile, {
      onNone: () => "ARCP_WEBHOOK_SECRET",
      onSome: (file) => `--webhook-secret-file ${file}`
    })
    if (secrets.length === 0 && Option.isSome(flags.webhookSecretFile))
      return yield* new UsageError({ message: `${source} holds no secret; ${make}` })
    if (secrets.length === 0)
      return yield* new UsageError({
        message: `--webhook needs a secret to sign with: --webhook-secret-file FILE, or ARCP_WEBHOOK_SECRET; ${make}`
      })
    const hooks = HooksWebhook.layer({
      url: flags.webhook.value,
      secrets,
      values: flags.webhookValues,
      ...(flags.webhookEvent.length === 0 ? {} : { kinds: flags.webhookEvent })
    })
    const built = yield* Effect.mapError(
      Layer.build(hooks),
      ({ message, option }) =>
        new UsageError({
          message: option === "url" ? `--webhook: ${message}` : `${source}: ${message}; ${make}`
        })
    )
    return Layer.succeed(Hooks, Context.get(built, Hooks))
  })
