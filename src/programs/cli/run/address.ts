/** Where `arcp serve` listens, and to whom: what its flags say is looked at before anything begins. */
import * as Effect from "effect/Effect"
import { trustedProxies } from "../../../layers/transport/clientAddress.js"
import { hostRule, originRule, pathRule } from "../../../layers/transport/UpgradePolicy.js"
import type { Rule } from "../../../protocol/Argument.js"
import { isLoopback } from "../../../protocol/Loopback.js"
import { failureMessage } from "../../../services/agents/Agent.js"
import type { ServeFlags } from "../serve.js"
import { UsageError } from "../UsageError.js"

const refused = (message: string) => Effect.fail(new UsageError({ message }))

/** The flags whose value is no secret, so that it is repeated when it breaks its rule. */
const rules = (flags: ServeFlags): ReadonlyArray<readonly [flag: string, rule: Rule, value: string]> => [
  ["--host", hostRule, flags.host],
  ["--path", pathRule, flags.path],
  ...flags.allowOrigin.map((value) => ["--allow-origin", originRule, value] as const),
  ...flags.allowHost.map((value) => ["--allow-host", hostRule, value] as const)
]

export const checkAddress = (flags: ServeFlags): Effect.Effect<void, UsageError> =>
  Effect.gen(function* () {
    if (flags.port < 0 || flags.port > 65_535)
      return yield* refused("--port takes 0 (any free port) to 65535")
    for (const [flag, rule, value] of rules(flags)) {
      const problem = rule(value, `${flag} ${JSON.stringify(value)}`)
      if (problem !== undefined) return yield* refused(problem.replace(/, and is .*$/, ""))
    }
    if (flags.transport === "ws" && !isLoopback(flags.host) && !flags.allowInsecure)
      return yield* refused(
        `--host ${flags.host}: without TLS tokens would travel readable; listen on 127.0.0.1 behind a TLS proxy, or add --allow-insecure if the proxy is on another machine`
      )
    yield* Effect.try({
      try: () => trustedProxies(flags.trustProxy),
      catch: (error) => new UsageError({ message: `--trust-proxy: ${failureMessage(error)}` })
    })
  })
