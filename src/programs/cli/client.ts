/** What every command that talks to a runtime has in common. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as ArcpClient from "../../layers/client/ArcpClient.js"
import * as DialerWebSocket from "../../layers/transport/DialerWebSocket.js"
import type { Feature } from "../../protocol/Features.js"
import { TransportError } from "../../services/transport/Transport.js"
import type { ClientFlags } from "./client-flags.js"
import { exitCode, leaveOnBrokenPipe, leaving } from "./exit.js"
import { giveUpAfter } from "./lost.js"
import { UsageError } from "./UsageError.js"

/** A session with the runtime, for as long as the scope. */
export const connect = (
  flags: ClientFlags,
  resume?: ArcpClient.ResumeState,
  features?: ReadonlyArray<Feature>
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
    const ms = yield* giveUpAfter(flags)
    return yield* ArcpClient.make({
      token: Redacted.make(flags.token),
      name: "arcp",
      ...(resume === undefined ? {} : { resume }),
      ...(features === undefined ? {} : { features })
    }).pipe(
      Effect.provide(DialerWebSocket.layer({ url: flags.url, allowInsecure: flags.insecure })),
      Effect.timeoutFail({
        duration: ms,
        onTimeout: () =>
          new TransportError({ message: `no welcome for ${flags.giveUpAfter}, gave up (--give-up-after)` })
      })
    )
  })
