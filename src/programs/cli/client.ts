/** What every command that talks to a runtime has in common. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as ArcpClient from "../../layers/client/ArcpClient.js"
import * as DialerWebSocket from "../../layers/transport/DialerWebSocket.js"
import * as Features from "../../protocol/Features.js"
import { TransportError } from "../../services/transport/Transport.js"
import { giveUpAfter } from "./lost.js"
import { type Target, type TargetFlags, targetOf } from "./target.js"
import type { UsageError } from "./UsageError.js"

/** A session with a runtime, for as long as the scope. */
export const connectTo = (
  target: Target,
  resume?: ArcpClient.ResumeState,
  features?: ReadonlyArray<Features.Feature>
): Effect.Effect<ArcpClient.ArcpClientService, ArcpClient.ClientError | UsageError, Scope.Scope> =>
  Effect.gen(function* () {
    const ms = yield* giveUpAfter(target)
    return yield* ArcpClient.make({
      token: target.token,
      name: "arcp",
      ...(resume === undefined ? {} : { resume }),
      ...(features === undefined ? {} : { features })
    }).pipe(
      Effect.provide(DialerWebSocket.layer({ url: target.url, allowInsecure: target.insecure })),
      Effect.timeoutFail({
        duration: ms,
        onTimeout: () =>
          new TransportError({ message: `no welcome for ${target.giveUpAfter}, gave up (--give-up-after)` })
      })
    )
  })

/** The features of a command that owns no job and follows none: nobody comes back to its session, which ends with its connection. */
export const passing: ReadonlyArray<Features.Feature> = [...Features.all, Features.transient]

/** The same, with the runtime that the flags, the environment and the contexts mean. */
export const connect = (flags: TargetFlags, features?: ReadonlyArray<Features.Feature>) =>
  Effect.flatMap(targetOf(flags), (target) => connectTo(target, undefined, features))
