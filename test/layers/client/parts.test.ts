/** The parts of the client by themselves: lanes, handles, requests, chunks, the place that is kept. */
import { FileSystem } from "@effect/platform/FileSystem"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { type ChunkBody, Chunks } from "../../../src/layers/client/Chunks.js"
import * as ClientState from "../../../src/layers/client/ClientState.js"
import { Handles } from "../../../src/layers/client/Handles.js"
import { type JobFrame, JobInbox } from "../../../src/layers/client/JobInbox.js"
import { type AnyLane, type Host, Lane } from "../../../src/layers/client/Lane.js"
import { Line } from "../../../src/layers/client/Line.js"
import type { Pull } from "../../../src/layers/client/pull.js"
import { Requests } from "../../../src/layers/client/Requests.js"
import { resultAsFile } from "../../../src/layers/client/resultAsFile.js"
import * as TransportMemory from "../../../src/layers/transport/TransportMemory.js"
import { InternalError } from "../../../src/protocol/Errors.js"
import { type ClientError, ProtocolViolation } from "../../../src/services/client/ArcpClient.js"

const makeHost = (maxHeld = { events: 1_000_000, bytes: 2 ** 30 }) => {
  const crowded = new Set<AnyLane>()
  const host: Host = {
    options: { maxHeld, now: () => 0 },
    crowded,
    read: () => {},
    starved: () => {}
  }
  return { crowded, host }
}
const frame = (event_seq: number, kind: string, body: unknown): JobFrame => ({
  type: "job.event",
  event_seq,
  payload: { kind, ts: "", body } as never
})
const log = (seq: number) => frame(seq, "log", { level: "info", message: `${seq}` })
const chunk = (chunk_seq: number, data: string, more: boolean, encoding = "utf8"): ChunkBody =>
  ({ result_id: "res_1", chunk_seq, data, encoding, more }) as ChunkBody
const error = new InternalError({ message: "over" })

describe("Lane", () => {
  it("is full by events and by bytes; its reader is waited for at an eighth of the bytes", () => {
    for (const [maxHeld, crowdedAt] of [
      [{ events: 16, bytes: 1_000_000 }, 16],
      [{ events: 1_000, bytes: 160 }, 2]
    ] as const) {
      const { crowded, host } = makeHost(maxHeld)
      const lane = new Lane<number, void>(host, 0)
      for (let seq = 1; seq <= 16; seq++) {
        assert.strictEqual(crowded.size, seq > crowdedAt ? 1 : 0)
        assert.isFalse(lane.full)
        lane.offer(seq, 10, seq)
      }
      assert.isTrue(lane.full)
    }
  })

  it("goes on after a rewind only when all that it skipped comes again", () => {
    const lane = new Lane<number, void>(makeHost().host, 0)
    lane.offer(1, 1, 1)
    lane.behind = true
    lane.offer(2, 1, 2)
    lane.rewound(2)
    assert.isTrue(lane.behind)
    lane.rewound(1)
    assert.isFalse(lane.behind)
    lane.offer(1, 1, 1)
    lane.offer(2, 1, 2)
    assert.strictEqual(lane.position, 2)
  })

  it.effect(
    "takes each event once, and has room when it holds less than half of what made its reader waited for",
    () =>
      Effect.gen(function* () {
        for (const maxHeld of [
          { events: 10, bytes: 1_000 },
          { events: 1_000, bytes: 800 }
        ]) {
          const lane = new Lane<number, void>(makeHost(maxHeld).host, 0)
          for (let seq = 1; seq <= 10; seq++) lane.offer(seq, 10, seq)
          for (let seq = 1; seq <= 10; seq++) lane.offer(seq, 10, seq)
          let room = 0
          lane.onRoom(() => room++)
          const seen: Array<readonly [item: number, room: number]> = []
          yield* Stream.runForEach(Stream.take(lane.items, 6), (item) =>
            Effect.sync(() => seen.push([item, room]))
          )
          assert.deepStrictEqual(seen, [
            [1, 0],
            [2, 0],
            [3, 0],
            [4, 0],
            [5, 0],
            [6, 1]
          ])
          lane.finish(11, Exit.void)
          assert.deepStrictEqual([...(yield* Stream.runCollect(lane.items))], [7, 8, 9, 10])
        }
      })
  )

  it.effect("a reader that let others go first on its way to waiting does not wait for what has come", () =>
    Effect.gen(function* () {
      const lane = new Lane<number, void>(makeHost().host, 0)
      let next: Pull<number, ClientError> = () => undefined
      const reading = lane.reader((pull) => {
        next = pull
        return () => undefined
      })
      yield* Stream.runDrain(reading)
      for (const comes of [() => lane.offer(1, 1, 1), () => lane.finish(2, Exit.void)]) {
        const wait = next()
        assert.isTrue(Effect.isEffect(wait))
        comes()
        if (Effect.isEffect(wait)) assert.isTrue(Exit.isSuccess(yield* Effect.exit(wait)))
        if (!lane.complete) assert.deepStrictEqual(next(), [1])
      }
    })
  )
})

describe("Handles", () => {
  it("keeps frames of a bounded number of bytes for a request that may claim their job, and not for longer than that", () => {
    const { host } = makeHost()
    const handles = new Handles()
    for (let seq = 1; seq <= 10; seq++) handles.deliver("job_1", log(seq), 1024 * 1024, 1)
    const first = new JobInbox(host)
    handles.register("job_1", first)
    assert.strictEqual(first.events.position, 7)
    // What was left out is read again.
    assert.isTrue(first.events.behind)
    handles.unclaimed(2)
    handles.deliver("job_3", log(1), 1, 2)
    handles.unclaimed(3)
    const late = new JobInbox(host)
    handles.register("job_3", late)
    assert.strictEqual(late.events.position, 0)
    handles.deliver("job_5", log(7), 1, 3)
    const claimed = new JobInbox(host)
    handles.register("job_5", claimed)
    assert.strictEqual(claimed.events.position, 7)
  })

  it("keeps a frame for the requests that were there when it came, however many follow, and has it hold acknowledgements back as long", () => {
    const { host } = makeHost()
    const handles = new Handles()
    handles.deliver("job_1", log(1), 1, 1)
    handles.deliver("job_1", log(2), 1, 2)
    handles.deliver("job_1", log(3), 1, 3)
    assert.strictEqual(handles.consumed(3), 0)
    handles.unclaimed(2)
    assert.strictEqual(handles.consumed(3), 1)
    handles.unclaimed(3)
    assert.strictEqual(handles.consumed(3), 2)
    const claimed = new JobInbox(host)
    handles.register("job_1", claimed)
    assert.strictEqual(claimed.events.position, 3)
  })

  it("has what was left out hold acknowledgements back, too, for as long as it may be claimed", () => {
    const { host } = makeHost()
    const handles = new Handles()
    for (let seq = 1; seq <= 7; seq++) handles.deliver("job_1", log(seq), 1024 * 1024, 1)
    handles.deliver("job_2", log(8), 1024 * 1024, 2)
    handles.unclaimed(2)
    assert.strictEqual(handles.consumed(8), 7)
    const claimed = new JobInbox(host)
    handles.register("job_2", claimed)
    assert.isTrue(claimed.events.behind)
    handles.unclaimed(3)
    assert.strictEqual(handles.consumed(8), 0)
  })

  it("keeps nothing of a session that is lost", () => {
    const { host } = makeHost()
    const handles = new Handles()
    handles.deliver("job_1", log(5), 1, 1)
    handles.lose()
    assert.strictEqual(handles.consumed(3), 3)
    const claimed = new JobInbox(host)
    handles.register("job_1", claimed)
    assert.strictEqual(claimed.events.position, 0)
  })
})

describe("JobInbox", () => {
  const credential = (id: string) => ({ id, value: `${id} secret`, endpoint: "https://example.com" })

  it("a rotation changes the credential that it names, and no other", () => {
    const inbox = new JobInbox(makeHost().host)
    inbox.current.accept({
      job_id: "job_1",
      agent: "x@1",
      lease: {},
      credentials: [credential("a"), credential("b")]
    })
    inbox.offer(frame(1, "status", { phase: "credential_rotated", id: "b", value: "new" }), 1)
    assert.deepStrictEqual(
      inbox.current.credentials.current.map(({ value }) => Redacted.value(value)),
      ["a secret", "new"]
    )
  })

  it("what is only interesting as it is now is not undone by what comes again", () => {
    const inbox = new JobInbox(makeHost().host)
    for (const n of [1, 2, 3]) inbox.offer(frame(n, "progress", { current: n }), 1)
    for (const n of [1, 2]) inbox.offer(frame(n, "progress", { current: n }), 1)
    assert.deepStrictEqual(inbox.current.progress.current, { current: 3 })
  })

  it.effect("chunks that come again in another session's numbering are taken once", () =>
    Effect.gen(function* () {
      const inbox = new JobInbox(makeHost().host)
      const chunks = [chunk(0, "a", true), chunk(1, "b", true), chunk(2, "c", false)]
      inbox.offer(frame(1, "result_chunk", chunks[0]), 1)
      inbox.offer(frame(2, "result_chunk", chunks[1]), 1)
      inbox.rebase(10, true)
      for (const [i, body] of chunks.entries()) inbox.offer(frame(11 + i, "result_chunk", body), 1)
      const payload = {
        final_status: "success",
        result_id: "res_1",
        result_size: 3,
        completed_at: ""
      } as const
      inbox.offer({ type: "job.result", event_seq: 14, payload }, 1)
      assert.strictEqual((yield* inbox.result).result, "abc")
    })
  )
})

describe("what an inbox says to the next process", () => {
  it("is where the chunks begin that have not come here again, also while others come", () => {
    const inbox = new JobInbox(makeHost().host, { events: 5, chunks: 2, from: 5 })
    inbox.offer(frame(6, "result_chunk", chunk(3, "x", true)), 1)
    assert.deepInclude(inbox.readTo, { chunksAfter: 2 })
  })

  it("is no place before the first event, when what was skipped is gone", () => {
    const inbox = new JobInbox(makeHost().host)
    inbox.cut()
    inbox.offer(log(1), 1)
    inbox.events.reading = true
    inbox.evicted()
    assert.strictEqual(inbox.readTo.eventsAfter, 0)
  })

  it.effect("is in the numbers of the session that it goes on in, also of events that have all come", () =>
    Effect.gen(function* () {
      const inbox = new JobInbox(makeHost().host)
      for (const seq of [501, 502]) inbox.offer(log(seq), 1)
      inbox.cut()
      inbox.events.rewound(502)
      inbox.offer({ type: "job.error", event_seq: 503, payload: { code: "TIMEOUT" } as never }, 1)
      inbox.lose()
      inbox.rebase(30, true)
      assert.strictEqual(inbox.readTo.eventsAfter, 30)
      assert.lengthOf([...(yield* Stream.runCollect(inbox.events.items))], 2)
    })
  )
})

describe("Chunks", () => {
  it("are of one result, in order, in one encoding, and nothing follows the last", () => {
    const first = chunk(0, "a", true)
    const wrong = [chunk(0, "b", false), chunk(2, "b", false), chunk(1, "Yg==", false, "base64")]
    for (const next of [...wrong, { ...chunk(1, "b", false), result_id: "res_2" }]) {
      const chunks = new Chunks()
      assert.instanceOf(chunks.decode(first), Uint8Array)
      assert.instanceOf(chunks.decode(next), ProtocolViolation)
    }
    const chunks = new Chunks()
    for (const next of [first, chunk(1, "b", false)]) assert.instanceOf(chunks.decode(next), Uint8Array)
    assert.instanceOf(chunks.decode(chunk(2, "c", false)), ProtocolViolation)
  })
})

describe("a streamed result that goes on in another session", () => {
  /** A result of four chunks, of which `left` do not come; then its end. */
  const ending = (left: ReadonlyArray<number>) => {
    const inbox = new JobInbox(makeHost().host)
    const numbers = [0, 1, 2, 3].filter((seq) => !left.includes(seq))
    inbox.offer(frame(1, "result_chunk", chunk(0, "x", true)), 1)
    inbox.lose()
    inbox.offer(log(2), 1)
    inbox.rebase(4, false)
    for (const [i, seq] of numbers.entries())
      inbox.offer(frame(5 + i, "result_chunk", chunk(seq, "x", seq < 3)), 1)
    const payload = { final_status: "success", result_id: "res_1", completed_at: "" } as const
    inbox.offer({ type: "job.result", event_seq: 9, payload }, 1)
    return inbox
  }

  it.effect("is whole when the same chunks come again, and takes nothing before it goes on", () =>
    Effect.gen(function* () {
      const inbox = ending([])
      assert.strictEqual((yield* inbox.result).result, "xxxx")
      const kinds = [...(yield* Stream.runCollect(inbox.events.items))].map(({ kind }) => kind)
      assert.deepStrictEqual(
        kinds.filter((kind) => kind !== "result_chunk"),
        ["gap"]
      )
    })
  )

  it("is replayed from where its reader is; one that an earlier process has left may still get one", () => {
    const { host } = makeHost()
    assert.deepStrictEqual(new JobInbox(host, { events: 500, from: 0 }).replayAfter, {
      events: 500,
      chunks: 500
    })
    const left = new JobInbox(host, { events: 500, chunks: 100, from: 0 })
    assert.deepStrictEqual(left.replayAfter, { events: 500, chunks: 100 })
  })

  it.effect.each([[[1]], [[3]], [[1, 2, 3]]])("without the chunks %j fails as the session did", ([left]) =>
    Effect.gen(function* () {
      for (const read of [
        (inbox: JobInbox) => inbox.result,
        (inbox: JobInbox) => Stream.runDrain(inbox.chunks())
      ])
        assert.strictEqual((yield* Effect.flip(read(ending(left ?? []))))._tag, "ResumeWindowExpired")
    })
  )
})

describe("resultAsFile", () => {
  const MiB = 1024 * 1024
  /** Writes a result of such chunks, and returns what was written, by what memory, and what the result says. */
  const written = (sizes: ReadonlyArray<number>, encoding: "utf8" | "base64") =>
    Effect.gen(function* () {
      const files = yield* FileSystem
      const inbox = new JobInbox(makeHost().host)
      const texts = sizes.map((size, i) => String.fromCharCode(97 + i).repeat(size))
      for (const [i, text] of texts.entries()) {
        const data = encoding === "utf8" ? text : btoa(text)
        inbox.offer(frame(i + 1, "result_chunk", chunk(i, data, i + 1 < texts.length, encoding)), data.length)
      }
      const payload = {
        final_status: "success",
        result_id: "res_1",
        summary: "whole",
        completed_at: ""
      } as const
      inbox.offer({ type: "job.result", event_seq: texts.length + 1, payload }, 1)
      const directory = yield* files.makeTempDirectoryScoped()
      const memory = new Set<ArrayBufferLike>()
      let writes = 0
      const counting = {
        ...files,
        open: (...args: Parameters<typeof files.open>) =>
          Effect.map(files.open(...args), (file) =>
            Object.create(file, {
              writeAll: {
                value: (bytes: Uint8Array) => {
                  memory.add(bytes.buffer)
                  writes++
                  return file.writeAll(bytes)
                }
              }
            })
          )
      }
      const path = `${directory}/result`
      const said = yield* Effect.provideService(resultAsFile(inbox, path), FileSystem, counting)
      return {
        writes,
        memory: memory.size,
        said,
        same: (yield* files.readFileString(path)) === texts.join("")
      }
    })

  it.scoped.each(["utf8", "base64"] as const)(
    "small chunks of a result are gathered in one piece of memory, and written when one does not fit there: %s",
    (encoding) =>
      Effect.gen(function* () {
        const small = yield* written(
          Array.from({ length: 20 }, () => MiB / 8),
          encoding
        )
        assert.deepStrictEqual(small, {
          writes: 5,
          memory: 3,
          said: { path: small.said.path, size: 2.5 * MiB, summary: "whole" },
          same: true
        })
        // Larger than before, than what is free, than all of it; and nothing.
        const odd = yield* written([5, MiB - 3, 2 * MiB, MiB / 2, MiB / 2 + 1, 7, 0], encoding)
        assert.isTrue(odd.same)
        assert.strictEqual(odd.said.size, 4 * MiB + 10)
      }).pipe(Effect.provide(NodeFileSystem.layer))
  )
})

describe("Requests", () => {
  it("when their session is gone those that may be repeated are kept for the next", () => {
    const requests = new Requests(() => 0, 1)
    const failed: Array<string> = []
    for (const [id, repeatable] of [
      ["kept", true],
      ["failed", false]
    ] as const)
      requests.add(id, {
        answer: "job.accepted",
        text: id,
        answered: () => {},
        failed: () => failed.push(id),
        repeatable,
        claims: false
      })
    requests.fail(error, true)
    assert.deepStrictEqual(failed, ["failed"])
    assert.deepStrictEqual(
      requests.resent().map(([, { text }]) => text),
      ["kept"]
    )
    requests.fail(error, false)
    assert.deepStrictEqual(failed, ["failed", "kept"])
  })
})

describe("Line", () => {
  it.effect("a new connection gets nothing that was said to the one before it", () =>
    Effect.gen(function* () {
      const [client, server] = yield* TransportMemory.make
      const line = new Line(() => 0)
      line.push("of the old session")
      line.open()
      line.push("first")
      line.push("second")
      yield* line.flush(client)
      assert.deepStrictEqual([...(yield* server.take)], ["first", "second"])
    }).pipe(Effect.scoped)
  )

  it.effect("what is not wanted any more when the writer comes to it is not sent", () =>
    Effect.gen(function* () {
      const [client, server] = yield* TransportMemory.make
      const line = new Line(() => 0)
      line.open()
      let isWanted = true
      line.push("given up", () => isWanted)
      line.push("wanted", () => true)
      isWanted = false
      yield* line.flush(client)
      assert.deepStrictEqual([...(yield* server.take)], ["wanted"])
    }).pipe(Effect.scoped)
  )
})

describe("ClientState", () => {
  it.effect("a save that failed is repeated in its place: the other one is still whole", () =>
    Effect.gen(function* () {
      const written: Array<string> = []
      let fails = false
      const { save } = yield* ClientState.keyValueStore({
        get: () => Effect.succeed(Option.none()),
        set: (key) =>
          Effect.suspend(() => {
            if (!key.endsWith(".owner")) written.push(key)
            return fails ? Effect.fail("the disk is full") : Effect.void
          })
      })
      const at = (lastEventSeq: number) =>
        save(() => ({ sessionId: "sess_1", resumeToken: "rt_1", lastEventSeq, jobs: [] }))
      yield* at(1)
      fails = true
      yield* Effect.zipRight(at(2), at(3))
      fails = false
      yield* Effect.zipRight(at(4), at(5))
      // Nothing new is nothing to write.
      yield* at(5)
      assert.deepStrictEqual(written, ["arcp", "arcp.2", "arcp.2", "arcp.2", "arcp"])
    }).pipe(Effect.scoped)
  )
})
