// The HttpClient of agents never reaches what is not public, on whatever runs this file.
import assert from "node:assert/strict"
import { once } from "node:events"
import { createServer } from "node:http"
import { HttpClient } from "@effect/platform"
import { Effect } from "effect"
import { HttpClientPublic } from "effect-arcp/node"

const server = createServer((_, response) => response.end("inside")).listen(0, "127.0.0.1")
await once(server, "listening")
for (const host of ["127.0.0.1", "localhost", "a.example"]) {
  const fetched = await HttpClient.HttpClient.pipe(
    Effect.flatMap((http) => http.get(`http://${host}:${server.address().port}/`)),
    Effect.flatMap((response) => response.text),
    Effect.merge,
    Effect.provide(
      HttpClientPublic.layer({
        lookup: (_, { all }, done) =>
          all ? done(null, [{ address: "127.0.0.1", family: 4 }]) : done(null, "127.0.0.1", 4)
      })
    ),
    Effect.runPromise
  )
  assert.match(`${fetched.message} ${fetched.cause}`, /public/)
}
process.exit()
