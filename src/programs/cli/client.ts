/** What every command that talks to a runtime has in common. */
import * as CliOptions from "@effect/cli/Options"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type * as ArcpClient from "../../layers/client/ArcpClient.js"
import { exitCode, leaveOnBrokenPipe, leaving } from "./exit.js"
import { UsageError } from "./UsageError.js"

/** Where `arcp serve` listens when it is not told. */
export const defaultUrl = "ws://127.0.0.1:7777/arcp"

const url = CliOptions.text("url").pipe(
  CliOptions.withDescription(`where the runtime is; also ARCP_URL (default ${defaultUrl})`),
  CliOptions.withFallbackConfig(Config.string("ARCP_URL"))
)

/** For commands that know better than the default where the runtime is. */
export const optionalUrl = CliOptions.optional(url)

export const clientOptions = {
  url: CliOptions.withDefault(url, defaultUrl),
  token: CliOptions.text("token").pipe(
    CliOptions.withDescription("bearer token; also ARCP_TOKEN"),
    CliOptions.withFallbackConfig(Config.string("ARCP_TOKEN")),
    CliOptions.withDefault("")
  ),
  insecure: CliOptions.boolean("insecure").pipe(
    CliOptions.withDescription("allow ws:// to a host that is not this machine")
  ),
  json: CliOptions.boolean("json").pipe(CliOptions.withDescription("one JSON value per line on stdout"))
}

export interface ClientFlags {
  readonly url: string
  readonly token: string
  readonly insecure: boolean
  readonly json: boolean
}

/** A session with the runtime, for as long as the scope. */
export const connect = (
  flags: ClientFlags,
  resume?: ArcpClient.ResumeState
): Effect.Effect<ArcpClient.ArcpClientService, ArcpClient.ClientError | UsageError, Scope.Scope> =>
  Effect.gen(function* () {
    yield* leaveOnBrokenPipe
    yield* Effect.addFinalizer((exit) =>
      Effect.sync(() => {
        if (Exit.isInterrupted(exit) && leaving.code === exitCode.success) leaving.code = exitCode.interrupted
      })
    )
    if (flags.token === "")
      return yield* new UsageError({ message: "a token is needed: give --token, or set ARCP_TOKEN" })
    const [ArcpClient, DialerWebSocket] = yield* Effect.promise(() =>
      Promise.all([
        import("../../layers/client/ArcpClient.js"),
        import("../../layers/transport/DialerWebSocket.js")
      ])
    )
    return yield* ArcpClient.make({
      token: Redacted.make(flags.token),
      name: "arcp",
      ...(resume === undefined ? {} : { resume })
    }).pipe(Effect.provide(DialerWebSocket.layer({ url: flags.url, allowInsecure: flags.insecure })))
  })
