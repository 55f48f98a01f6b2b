// The runtime as a child process: the client starts it and talks to it over its stdin and stdout. No port, and it
// ends when the client is done with it.
//
//   npm run example stdio

import { fileURLToPath } from "node:url"
import { Effect, Redacted, Stream } from "effect"
import { ArcpClient } from "effect-arcp"
import { DialerStdio } from "effect-arcp/node"

const program = fileURLToPath(
  new URL("dist/programs/arcp.js", import.meta.resolve("effect-arcp/package.json"))
)
/** The file beside this one. */
const agents = fileURLToPath(import.meta.url).replace("stdio", "my-agents")

// In a project that has effect-arcp installed: command "npx", args ["arcp", "serve", …].
const runtime = DialerStdio.layer({
  command: process.execPath,
  args: [
    ...[program, "serve", "--transport", "stdio", "--memory"],
    ...["--agents", agents, "--token", "secret=me", "--log-level", "warning"]
  ]
})

const main = Effect.gen(function* () {
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

await Effect.runPromise(Effect.scoped(main).pipe(Effect.provide(runtime)))
