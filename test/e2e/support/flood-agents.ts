/** Agents whose jobs a test can check to the last byte, and what they know of them. */
import { createHash } from "node:crypto"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { seeded } from "./random.js"

/** Emits the numbers from 1 to `to`, pausing for a millisecond after each `burst` of them. */
export const Numbers = Agent.make("numbers", {
  version: "1.0.0",
  input: Schema.Struct({ name: Schema.String, to: Schema.Int, burst: Schema.Int }),
  output: Schema.Int
})

/** Streams `bytes` bytes that `name` and `seed` determine, with an event between every few pieces. */
export const Blob = Agent.make("blob", {
  version: "1.0.0",
  input: Schema.Struct({
    name: Schema.String,
    seed: Schema.Int,
    bytes: Schema.Int,
    encoding: Schema.Literal("utf8", "base64")
  })
})

const pieceBytes = 60_000

/** Two, three and four bytes long: a cut at the wrong place shows. */
const letters = ["é", "€", "🙂", "x"]

/** The next piece, of random length; the same generator gives the same pieces. */
const piece = (random: ReturnType<typeof seeded>, encoding: "utf8" | "base64", left: number): Buffer => {
  const length = Math.min(left, 1 + random.below(pieceBytes))
  if (encoding === "utf8") {
    const letter = letters[random.below(letters.length)] as string
    return Buffer.from(letter.repeat(Math.ceil(length / Buffer.byteLength(letter))))
  }
  const bytes = Buffer.alloc(length)
  let word = random.below(0x7fffffff) | 1
  for (let i = 0; i < length; i++) {
    word = (Math.imul(word, 1_103_515_245) + 12_345) >>> 0
    bytes[i] = word >>> 16
  }
  return bytes
}

/** The agents, and their own books: how often each job has run, and the digests of what they streamed. */
export const floodAgents = () => {
  const runs = new Map<string, number>()
  const digests = new Map<string, string>()
  const sizes = new Map<string, number>()
  const started = (name: string) => runs.set(name, (runs.get(name) ?? 0) + 1)

  const numbers = Agent.handle(Numbers, ({ burst, name, to }) =>
    Effect.gen(function* () {
      started(name)
      const job = yield* Job
      for (let i = 1; i <= to; i += burst) {
        const last = Math.min(to, i + burst - 1)
        yield* Effect.forEach(
          Array.from({ length: last - i + 1 }, (_, k) => i + k),
          (n) => job.log("info", `${n}`),
          { concurrency: "unbounded", discard: true }
        )
        yield* Effect.sleep("1 millis")
      }
      return to
    })
  )
  const blob = Agent.handle(Blob, ({ bytes, encoding, name, seed }) =>
    Effect.gen(function* () {
      started(name)
      const job = yield* Job
      const random = seeded(seed)
      const hash = createHash("sha256")
      let sent = 0
      const pieces = function* () {
        while (sent < bytes) {
          const data = piece(random, encoding, bytes - sent)
          hash.update(data)
          sent += data.length
          yield encoding === "utf8" ? data.toString() : data
        }
      }
      yield* job.streamResult(
        // One at a time: memory is measured here.
        Stream.tap(Stream.fromIteratorSucceed(pieces(), 1), () =>
          random.below(8) === 0 ? job.progress({ current: sent }) : Effect.void
        ),
        encoding
      )
      digests.set(name, hash.digest("hex"))
      sizes.set(name, sent)
    })
  )
  return { agents: [numbers, blob], runs, digests, sizes }
}
