/** What every command that talks to a runtime has in common. */
import * as CliOptions from "@effect/cli/Options"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as ArcpClient from "../../layers/ArcpClient.js"
import * as DialerWebSocket from "../../layers/DialerWebSocket.js"
import { UsageError } from "./UsageError.js"

export const clientOptions = {
  url: CliOptions.text("url").pipe(
    CliOptions.withDescription("where the runtime is; also ARCP_URL"),
    CliOptions.withFallbackConfig(Config.string("ARCP_URL")),
    CliOptions.withDefault("ws://127.0.0.1:7777/arcp")
  ),
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
  flags.token === ""
    ? Effect.fail(new UsageError({ message: "a token is needed: give --token, or set ARCP_TOKEN" }))
    : ArcpClient.make({
        token: Redacted.make(flags.token),
        name: "arcp",
        ...(resume === undefined ? {} : { resume })
      }).pipe(Effect.provide(DialerWebSocket.layer({ url: flags.url, allowInsecure: flags.insecure })))
