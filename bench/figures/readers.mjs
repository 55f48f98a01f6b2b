/**
 * Figures about the client of this package. In the floor's place is a bare loop of `ws` and `JSON.parse`, over the same
 * server.
 */
import { tmpdir } from "node:os"
import { atLeast, atMost } from "../targets.mjs"
import { rate, size } from "./common.mjs"

/** Both sides read from one server. */
const readersOf = (kind) => ({ floor: { kind, reader: "bare" }, subject: { kind, reader: "ours" } })

const read = (kind, full, target) => ({
  name: "client",
  title: `our client against a bare loop, events of ${kind === "floor" ? "the floor" : "effect-arcp"}`,
  store: "memory",
  sides: readersOf(kind),
  warmups: 2,
  metrics: {
    ...rate("events/s", target),
    cpu: { unit: "µs", better: "lower", label: "CPU of the reader, each" }
  },
  measure: ({ client, server, side }) =>
    client.run(server, "read", { reader: side.reader, count: full ? 100_000 : 10_000, size })
})

const chunkBytes = 64 * 1024
const mebi = 1024 ** 2

const download = (store, full, { mebibytes, target, ...more }) => {
  const bytes = full ? mebibytes : 16
  return {
    name: "stream",
    title: `a streamed result of ${bytes} MiB to the client's disk, against a bare loop`,
    store,
    sides: readersOf("arcp"),
    freshClients: true,
    metrics: {
      ...rate("MiB/s", target),
      rss: {
        unit: "MiB",
        better: "lower",
        label: "growth of the client's memory meanwhile",
        target: atMost(64, "MiB")
      }
    },
    measure: ({ client, server, side }) =>
      client.run(server, "download", {
        reader: side.reader,
        chunks: (bytes * mebi) / chunkBytes,
        chunkBytes,
        directory: tmpdir()
      }),
    ...more
  }
}

/** All figures about the client, in the order of the report. */
export const readers = ({ full }) => [
  read("arcp", full, atLeast(0.8)),
  read("floor", full),
  download("memory", full, { mebibytes: 255, target: atLeast(0.5) }),
  download("FULL", full, { mebibytes: 1024, target: atLeast(0.4), long: true, maxRuns: 1, warmups: 0 })
]
