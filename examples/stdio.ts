// The runtime as a child process: the client starts it and talks to it over its stdin and stdout. No port, and it
// ends when the client is done with it.
//
//   node examples/stdio.mjs

import { fileURLToPath } from "node:url"
import { Effect, Redacted, Stream } from "effect"
import { ArcpClient } from "effect-arcp"
import { DialerStdio } from "effect-arcp/node"

const path = (relative) => fileURLToPath(new URL(relative, import.meta.url))

// In a project that has effect-arcp installed: command "npx", args ["arcp", "serve", …].
const runtime = DialerStdio.layer({
  command: process.execPath,
  args: [
    ...[path("../dist/programs/arcp.js"), "serve", "--transport", "stdio", "--memory"],
    ...["--agents", path("my-agents.mjs"), "--token", "secret=me", "--log-level", "warning"]
  ]
})

const program = Effect.gen(function* () {
  const client = yield* ArcpClient.make({ token: Redacted.make("secret") })
  const agents = yield* client.agents
  console.log(`the child hosts: ${agents.map((agent) => agent.name).join(", ")}`)

  const job = yield* client.submit("count", { to: 5 })
  yield* Stream.runForEach(job.events, (event) =>
    Effect.sync(() => {
      if (event.kind === "progress") console.log(`${event.body.current} of ${event.body.total}`)
    })
  )
  console.log(`result: ${yield* job.result}`)
})

await Effect.runPromise(Effect.scoped(program).pipe(Effect.provide(runtime)))
