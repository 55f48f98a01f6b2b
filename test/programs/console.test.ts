/** What the console makes of events, addresses, schemas and texts, without a browser. */
import * as fc from "effect/FastCheck"
import { assert, describe, it } from "vitest"
import { adviceFor } from "../../src/programs/console/model/advice.js"
import { Announcements, Tidings } from "../../src/programs/console/model/announcements.js"
import * as At from "../../src/programs/console/model/at.js"
import { asCode, asCommand, durationMs, quoted } from "../../src/programs/console/model/copies.js"
import * as JobModel from "../../src/programs/console/model/JobModel.js"
import { JobTable, letsThrough } from "../../src/programs/console/model/JobTable.js"
import { budgets, sentences } from "../../src/programs/console/model/lease.js"
import * as Markdown from "../../src/programs/console/model/markdown.js"
import * as Prometheus from "../../src/programs/console/model/prometheus.js"
import * as Route from "../../src/programs/console/model/route.js"
import * as Rows from "../../src/programs/console/model/rows.js"
import {
  jsonIn,
  jsonUnasked,
  mayBeJson,
  mostUnasked,
  Pieces
} from "../../src/programs/console/model/Streamed.js"
import { fieldOf, initial, missing } from "../../src/programs/console/model/schemaForm.js"
import {
  brief,
  counted,
  duration,
  hostBehind,
  plain,
  safeUrl
} from "../../src/programs/console/model/text.js"
import { rowsOf } from "../../src/programs/console/model/timeline.js"
import { namesOf, openAtFirst, Shares } from "../../src/programs/console/model/tree.js"
import { Unreadable, valueIn } from "../../src/programs/console/model/typed.js"
import { between, moved, showing, tick, zoomed } from "../../src/programs/console/model/zoom.js"
import * as Presence from "../../src/programs/console/state/presence.js"
import { type JobStatus, jobStatuses } from "../../src/protocol/JobStatus.js"
import type { JobEvent } from "../../src/services/client/ArcpClient.js"

let seq = 0
const at = (second: number) => new Date(Date.UTC(2026, 0, 1, 0, 0, second)).toISOString()
const call = (id: string, second: number): JobEvent => ({
  kind: "tool_call",
  ts: at(second),
  eventSeq: ++seq,
  body: { tool: "search", call_id: id }
})
const result = (id: string, second: number, error?: unknown): JobEvent => ({
  kind: "tool_result",
  ts: at(second),
  eventSeq: ++seq,
  body: { call_id: id, ...(error === undefined ? { result: 1 } : { error }) }
})
const cost = (name: string, value: number, second: number): JobEvent => ({
  kind: "metric",
  ts: at(second),
  eventSeq: ++seq,
  body: { name, value, unit: "USD" }
})
const model = (...events: ReadonlyArray<JobEvent>) => {
  const made = JobModel.empty()
  for (const event of events) JobModel.take(made, event)
  return made
}

describe("the console's model", () => {
  it("knows the state at any event", () => {
    const job = model(
      call("a", 0),
      cost("cost.model", 1, 1),
      cost("cost.budget.remaining", 4, 1),
      result("a", 2, { code: "PERMISSION_DENIED", message: "no" }),
      call("b", 3)
    )
    const span = job.spans[0]
    assert.isDefined(span)
    if (span === undefined) return
    assert.deepStrictEqual(
      [0, 1, 3, 4].map((upTo) => At.outcomeAt(span, upTo)),
      [undefined, "open", "open", "denied"]
    )
    assert.deepStrictEqual([...At.remaining(job, 2)], [])
    assert.deepStrictEqual([...At.remaining(job, 3)], [["USD", 4]])
    assert.deepStrictEqual([...At.spent(job, 5)], [["USD", 1]])
    assert.deepStrictEqual(
      At.running(job, 2, 9).map(({ id }) => id),
      ["a"]
    )
    assert.deepStrictEqual(
      At.running(job, 5, 9).map(({ id }) => id),
      ["b"]
    )
    assert.deepStrictEqual(
      job.marks.map(({ value }) => value.kind),
      ["denied"]
    )
    JobModel.ended(job, { status: "success", result: 1 })
    assert.deepStrictEqual(At.running(job, 5, 9), [])
  })

  it("says what a lease has refused, with what is not seen in it named", () => {
    const details = { capability: "fs.read", target: "/etc/\u202epasswd" }
    const event = result("a", 2, { code: "PERMISSION_DENIED", message: "no", details })
    const job = model(call("a", 0), event)
    assert.strictEqual(job.marks[0]?.value.text, "PERMISSION_DENIED: no (fs.read /etc/⟨U+202E⟩passwd)")
    assert.strictEqual(Rows.textOf(event), "✗ PERMISSION_DENIED no (fs.read /etc/⟨U+202E⟩passwd)")
  })

  it("knows a job, and what has not said its end, until the end of the job", () => {
    const job = model(call("a", 0))
    const start = job.times[0] ?? 0
    assert.deepStrictEqual(At.extent(job), [start, start + 1])
    assert.strictEqual(At.tookOf(job, start - 5), 5)
    JobModel.ended(job, { status: "success", result: 1 }, start + 6_000)
    assert.deepStrictEqual(At.extent(job), [start, start + 6_000])
    assert.strictEqual(At.tookOf(job, start - 5), 6_005)
    assert.strictEqual(job.spans[0]?.endedAt, start + 6_000)
    // The end of what it has delegated to may be known after its own.
    const parent = model({
      ...{ kind: "delegate", ts: at(0), eventSeq: ++seq },
      body: { delegate_id: "d", agent: "child", input: null, lease_request: {} }
    })
    JobModel.ended(parent, { status: "success", result: 1 }, start + 6_000)
    assert.isTrue(JobModel.childEnded(parent, "d", { status: "success", result: 2 }, start + 4_000))
    assert.deepInclude(parent.spans[0], { endedAt: start + 4_000 })
    assert.isFalse(JobModel.childEnded(parent, "d", { status: "success", result: 2 }, start + 5_000))
    // Of a runtime that does not say when.
    const silent = model(call("a", 0), result("a", 2))
    JobModel.ended(silent, { status: "success", result: 1 })
    assert.strictEqual(At.tookOf(silent, start), 2_000)
    assert.isUndefined(At.tookOf(JobModel.empty(), start))
  })

  it("has a step with all its attempts in one, and says of each what it took", () => {
    const told = (state: string, attempt: number, ms?: number, second = 0): JobEvent => ({
      kind: "x-vendor.effect-arcp.step",
      ts: at(second),
      eventSeq: ++seq,
      body: { key: "flaky", state, attempt, ms }
    })
    const job = model(told("started", 1), told("retry", 2, undefined, 3), told("retry", 3, undefined, 5))
    assert.deepStrictEqual(
      job.spans.map(({ outcome, tries }) => [outcome, tries]),
      [["open", 3]]
    )
    JobModel.take(job, told("ended", 3, 1, 6))
    const [span, ...others] = job.spans
    assert.deepStrictEqual(
      [span?.outcome, (span?.endedAt ?? 0) - (span?.startedAt ?? 0), others.length],
      ["ended", 6_000, 0]
    )
    assert.strictEqual(Rows.textOf(told("ended", 3, 1)), "flaky ended after 3 tries, the last of 1 ms")
    assert.strictEqual(Rows.textOf(told("retry", 2)), "flaky retry, try 2")
    assert.strictEqual(Rows.textOf(told("ended", 1, 20_000)), "flaky ended after 20 s")
    // One that was told to have failed, as by an interruption, goes on in another.
    JobModel.take(job, told("failed", 3, 1, 7))
    JobModel.take(job, told("retry", 4, undefined, 8))
    assert.deepStrictEqual(
      job.spans.map(({ tries }) => tries),
      [3, 4]
    )
  })

  it("draws no more bars than can be seen", () => {
    const events = Array.from({ length: 50_000 }, (_, i) => [
      call(`c${i}`, i / 100),
      result(`c${i}`, i / 100)
    ]).flat()
    const job = model(...events)
    const rows = rowsOf(job.spans, At.extent(job), events.length, 0)
    const bars = rows.flat()
    assert.isAtMost(bars.length, 3_500)
    assert.strictEqual(
      bars.reduce((sum, { spans }) => sum + spans, 0),
      50_000
    )
  })

  it("shows a part of the time, and only what is in it", () => {
    const whole = [1_000, 9_000] as const
    assert.deepStrictEqual(zoomed(whole, whole, 2, 5_000), [3_000, 7_000])
    assert.deepStrictEqual(zoomed(whole, [3_000, 7_000], 2, 3_000), [3_000, 5_000])
    assert.isUndefined(zoomed(whole, [3_000, 7_000], 0.5, 5_000))
    assert.deepStrictEqual(moved(whole, [3_000, 7_000], 3), [5_000, 9_000])
    assert.deepStrictEqual(between(whole, 4_000, 2_000), [2_000, 4_000])
    assert.deepStrictEqual(between(whole, 4_000, 4_000), [4_000, 4_005])
    assert.deepStrictEqual(showing(whole, [3_000, 5_000], 8_900), [7_000, 9_000])
    assert.deepStrictEqual(showing(whole, [3_000, 5_000], 4_000), [3_000, 5_000])
    assert.deepStrictEqual(
      [tick(0, whole), tick(2_000, whole), tick(40, [0, 40]), tick(3_723_000, [0, 7_200_000])],
      ["0", "2.0 s", "0.040 s", "1:02:03"]
    )
    // A job of a millisecond has marks that differ.
    assert.deepStrictEqual(
      [0, 0.25, 0.5, 0.75, 1].map((part) => tick(part, [0, 1])),
      ["0", "0.25 ms", "0.5 ms", "0.75 ms", "1 ms"]
    )
    assert.deepStrictEqual([counted(1, "event"), counted(1_000, "event")], ["1 event", "1\u202f000 events"])
    const job = model(
      call("a", 0),
      result("a", 2),
      call("b", 3),
      result("b", 4),
      call("c", 8),
      result("c", 9)
    )
    const start = job.times[0] ?? 0
    assert.deepStrictEqual(
      rowsOf(job.spans, [start + 2_500, start + 5_000], 6, 0)
        .flat()
        .map(({ span }) => span.id),
      ["b"]
    )
  })

  it("finds lines as they come, and in shares", () => {
    const events: Array<JobEvent> = []
    const search = new Rows.Search(events, { text: "NEEDLE", least: "trace", kinds: new Set() })
    for (let i = 0; i < 100; i++)
      events.push({
        kind: "thought",
        ts: at(i % 60),
        eventSeq: ++seq,
        body: { text: i % 10 === 0 ? "a needle" : "hay" }
      })
    assert.isTrue(search.look(50))
    assert.isFalse(search.look(50))
    assert.strictEqual(search.length(100), 10)
    assert.strictEqual(search.length(15), 2)
    assert.strictEqual(search.at(1), 10)
    assert.strictEqual(search.lineOf(20), 2)
    // Events may be large: a share is as much as there is time for, and one at least.
    const late = new Rows.Search(events, { text: "NEEDLE", least: "trace", kinds: new Set() })
    let looks = 0
    while (late.look(50, () => late.seen % 3 === 2)) looks++
    assert.deepStrictEqual([looks, late.found], [33, search.found])
  })

  it("keeps a result that comes in pieces as it came, and reads no large one unasked", () => {
    const put = (parts: ReadonlyArray<Uint8Array>) => {
      const pieces = new Pieces()
      for (const part of parts) pieces.add(part)
      return pieces
    }
    // Also where a piece ends within a character.
    fc.assert(
      fc.property(fc.fullUnicodeString(), fc.nat(), (text, cut) => {
        const bytes = new TextEncoder().encode(text)
        const at = cut % (bytes.length + 1)
        const pieces = put([bytes.subarray(0, at), bytes.subarray(at)])
        const { content, kept, reading, size } = pieces.whole(true)
        assert.deepStrictEqual([content, size, kept], [text, bytes.length, bytes.length])
        assert.strictEqual(reading?.beginning, text)
        assert.deepStrictEqual(pieces.whole(false).content, bytes)
      })
    )
    const large = new Uint8Array(30_000_000)
    const beginning = put([large, large, large, new Uint8Array(1)]).whole(false)
    assert.deepStrictEqual(
      [beginning.content.length, beginning.size, beginning.isWhole],
      [60_000_000, 90_000_001, false]
    )
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const isTree = typeof value === "object" && value !== null
        assert.deepStrictEqual(
          jsonUnasked(` ${JSON.stringify(value)}\n`),
          isTree ? JSON.parse(JSON.stringify(value)) : undefined
        )
      })
    )
    // Of a text that is long only the beginning is put together, and it is still known what it may be.
    const piece = (text: string) => new TextEncoder().encode(text)
    const list = put([
      piece("["),
      ...Array.from({ length: 3_000 }, () => piece(`"${"é".repeat(1_000)}",`)),
      piece("1]"),
      piece("\n")
    ])
    const { reading } = list.whole(true)
    assert.deepStrictEqual([reading?.isAll, reading?.mayBeJson], [false, true])
    assert.isAtLeast(reading?.beginning.length ?? 0, mostUnasked)
    assert.isBelow(reading?.beginning.length ?? 0, 2_100_000)
    assert.strictEqual((jsonIn(reading?.all() ?? "") as ReadonlyArray<unknown>).length, 3_001)
    assert.isFalse(
      put([piece("["), ...Array.from({ length: 5 }, () => large.subarray(0, 1_000_000))]).whole(true).reading
        ?.mayBeJson
    )
    assert.isUndefined(list.whole(false).reading)
    assert.isUndefined(jsonIn("[a link](https://example.com) [no list]"))
    const many = JSON.stringify(Array.from({ length: mostUnasked / 2 }, () => 1))
    assert.isTrue(mayBeJson(many))
    assert.isUndefined(jsonUnasked(many))
    assert.strictEqual((jsonIn(many) as ReadonlyArray<unknown>).length, mostUnasked / 2)
  })

  it("keeps where one is in the address", () => {
    fc.assert(
      fc.property(
        fc.string(),
        fc.string(),
        fc.subarray([...jobStatuses]),
        fc.boolean(),
        (agent, tab, status, waiting) => {
          const jobs: Route.Route = {
            view: "jobs",
            filters: { agent, principal: tab, status, waiting, since: "24h" }
          }
          assert.deepStrictEqual(Route.parse(Route.format(jobs)), jobs)
          const job: Route.Route = { view: "job", jobId: `job_${agent}`, tab, event: 7 }
          assert.deepStrictEqual(Route.parse(Route.format(job)), job)
        }
      )
    )
    assert.deepStrictEqual(Route.parse("#/job/%E0%A4%A"), {
      view: "job",
      jobId: "%E0%A4%A",
      tab: "",
      event: undefined
    })
  })

  it("shows no character that is not seen, and links nowhere but to the web", () => {
    for (const c of "\u00ad\u034f\u115f\u180e\u2065\u2800\u3164\ufeff\uffa0\u{1d173}\u{e0067}\ud800")
      assert.match(plain(`a${c} b`), /^a⟨U\+[0-9A-F]{4,5}⟩ b$/)
    assert.strictEqual(plain("❤\ufe0f 😀"), "❤\ufe0f 😀")
    assert.strictEqual(plain("😀😀", 3), "😀… (1 more characters)")
    assert.strictEqual(plain("a\u202eb\u0000c\u200bd\ne"), "a⟨U+202E⟩b⟨U+0000⟩c⟨U+200B⟩d\ne")
    assert.match(plain("x".repeat(30), 10), /^x{10}… \(20 more characters\)$/)
    // More marks than a script puts on a character would be drawn over what is around.
    assert.strictEqual(plain(`W${"\u0301".repeat(60)}!`), "W\u0301\u0301\u0301\u0301⟨56 marks more⟩!")
    for (const text of ["བསྒྲུབས", "မြွှော့်", "שָׁ֥", "น้ำ", "e\u0302\u0301", "1\ufe0f\u20e3"])
      assert.strictEqual(plain(text), text)
    for (const bad of [
      "javascript:alert(1)",
      "data:text/html,x",
      " https://x",
      "//x",
      "file:///etc",
      "http://"
    ])
      assert.isUndefined(safeUrl(bad), bad)
    assert.strictEqual(safeUrl("HTTPS://example.com/a b"), "https://example.com/a%20b")
    // Where a link leads is said, unless it is what it says.
    const hosts: ReadonlyArray<readonly [text: string, to: string, host: string]> = [
      ["https://bank.example", "https://evil.example/a", "evil.example"],
      ["https://bank.example/", "https://bank.example.evil.example/", "bank.example.evil.example"],
      ["the bank", "https://bank.example/", "bank.example"],
      ["HTTPS://ev\u0456l.example/", "https://xn--evl-khd.example/", "xn--evl-khd.example"],
      ["https://me:it@evil.example/", "https://me:it@evil.example/", "evil.example"],
      ["https://bank.example", "https://bank.example/", ""],
      ["https://bank.example/a?b", "https://bank.example/a?b", ""],
      ["https://bank.example:8443?b", "https://bank.example:8443/?b", ""]
    ]
    for (const [text, to, host] of hosts) assert.strictEqual(hostBehind(text, to), host, text)
    assert.deepStrictEqual(
      Markdown.inline("[x](javascript:1) ![p](https://e.example/p.png)").map(({ type }) => type),
      ["text", "link"]
    )
  })

  it("leaves nothing of Markdown out, and counts as the text does", () => {
    const shown = (text: string) =>
      Markdown.parse(text).blocks.flatMap((block) =>
        block.type === "list"
          ? block.items.map((item) => item.map((piece) => piece.text).join(""))
          : block.type === "rule"
            ? ["rule"]
            : "content" in block
              ? block.content.map((piece) => piece.text)
              : []
      )
    const hidden = `${"-".repeat(200)} It was NOT agreed.`
    assert.deepStrictEqual(shown(`* * *\n\n${hidden}`), ["rule", hidden])
    assert.deepStrictEqual(shown(`${"- ".repeat(500)}x`), [`${"- ".repeat(499)}x`])
    assert.deepStrictEqual(shown("*".repeat(20_000) + "[".repeat(20_000)), [
      "*".repeat(20_000) + "[".repeat(20_000)
    ])
    const text = "1. one\n2. two\n   - a\n   - b\n3. three\n\n5. five\n6. six\n* x\n- - -\n"
    assert.deepStrictEqual(
      Markdown.parse(text).blocks.map((block) =>
        block.type === "list" ? [block.depth, block.start, block.items.length] : block.type
      ),
      [[0, 1, 2], [1, undefined, 2], [0, 3, 1], [0, 5, 2], [0, undefined, 1], "rule"]
    )
  })

  it("reads any Markdown, in a time in proportion to it", () => {
    fc.assert(fc.property(fc.string({ maxLength: 2_000 }), (text) => void Markdown.parse(text)))
    const times = ["*", "`", "[", "|", "**a", "> ", "- ", "#", "![", "\\"].map((part) => {
      const since = performance.now()
      Markdown.parse(part.repeat(100_000 / part.length))
      return performance.now() - since
    })
    // A row whose last bar is escaped, of which the rest could be looked through from each of its characters.
    const since = performance.now()
    Markdown.parse(`a\n|${"a".repeat(390_000)}\\|`)
    times.push(performance.now() - since)
    // A hundred thousand characters and more; what is quadratic takes minutes.
    assert.isAtMost(Math.max(...times), 20_000)
    assert.deepStrictEqual(
      Markdown.parse("| a | b |\n| - | -: |\n| 1 | 2 |").blocks.map(({ type }) => type),
      ["table"]
    )
  })

  it("makes no more of Markdown than a page can draw at once, and looks at nothing twice", () => {
    const long = 390_000
    const texts = [
      "[",
      "![",
      "[](",
      "[a](",
      "`",
      "**a",
      "*a ",
      "http://a.b ",
      "[a](http://a.b) ",
      "**a** ",
      "- a\n",
      "# a\n",
      "> \n\n",
      "|a|b|\n|-|-|\n",
      "a\n\n"
    ].map((part) => part.repeat(long / part.length))
    texts.push(`|${"a|".repeat(100_000)}\n|${"-|".repeat(100_000)}`, `|a|\n|-|\n${"|b|\n".repeat(90_000)}`)
    const count = (of: unknown): number =>
      Array.isArray(of)
        ? of.reduce((sum, each) => sum + count(each), of.length)
        : typeof of === "object" && of !== null
          ? Object.values(of).reduce((sum, each) => sum + count(each), 0)
          : 0
    for (const text of texts) {
      const { blocks, isWhole } = Markdown.parse(text)
      assert.isAtMost(count(blocks), 4 * Markdown.mostPieces, text.slice(0, 20))
      assert.isTrue(isWhole || count(blocks) >= Markdown.mostPieces / 2, text.slice(0, 20))
    }
    assert.isTrue(Markdown.parse("a [b](https://c.d) `e`\n\n- f").isWhole)
    const cpu = (work: () => void): number =>
      Math.min(
        ...[1, 2, 3].map(() => {
          const since = process.cpuUsage()
          work()
          return process.cpuUsage(since).user
        })
      )
    // Beginnings of links, which were each looked at to their bounds, took eight times as long as this does.
    const usual = cpu(
      () =>
        void JSON.parse(
          JSON.stringify(Array.from({ length: 100_000 }, (_, i) => ({ i, text: "some words" })))
        )
    )
    for (const text of texts)
      assert.isAtMost(
        cpu(() => void Markdown.parse(text)),
        3 * usual,
        JSON.stringify(text.slice(0, 20))
      )
  })

  it("says a lease in sentences", () => {
    const lease = { "fs.read": ["/src/**"], "cost.budget": ["USD:5.00", "USD:1"] }
    assert.deepStrictEqual(
      sentences(lease, {}, 0).map(({ says, what }) => `${says} ${what.join(", ")}`),
      ["may read /src/**", "may spend up to 5.00 USD, 1 USD"]
    )
    assert.deepStrictEqual([...budgets(lease)], [["USD", 6]])
  })

  it("makes a form of a schema, and JSON of what is none", () => {
    const schema = {
      $ref: "#/$defs/Work",
      $defs: {
        Work: {
          type: "object",
          required: ["topic", "__proto__"],
          properties: {
            topic: { type: "string" },
            mode: { enum: ["a", "b"] },
            ["__proto__"]: { type: "boolean" }
          }
        }
      }
    }
    const field = fieldOf(schema)
    assert.strictEqual(field.type, "object")
    const value = initial(field, true)
    // Nothing is chosen, or said, that nobody meant.
    assert.deepStrictEqual(value, {})
    assert.deepStrictEqual(missing(field, {}), ["input.topic is missing", "input.__proto__ is missing"])
    assert.strictEqual(fieldOf({ $ref: "#/a", a: { $ref: "#/a" } }).type, "json")
    const members = (n: number) => ({
      type: "object",
      properties: Object.fromEntries(Array.from({ length: n }, (_, i) => [`p${i}`, { type: "string" }]))
    })
    assert.deepStrictEqual([fieldOf(members(200)).type, fieldOf(members(10_000)).type], ["object", "json"])
    fc.assert(fc.property(fc.jsonValue(), (any) => void missing(fieldOf(any), initial(fieldOf(any), true))))
  })

  it("takes nothing but what its fields show", () => {
    const text = { type: "string" }
    const properties = {
      a: text,
      n: { type: "number" },
      e: { enum: ["x", "y"] },
      l: { type: "array", items: text }
    }
    const field = fieldOf({ type: "object", required: ["a"], properties })
    const wrong = (value: unknown) => missing(field, value)
    assert.deepStrictEqual(wrong({ a: "1", n: 1, e: "y", l: ["", "b"] }), [])
    assert.deepStrictEqual(wrong({ a: "" }), [])
    assert.deepStrictEqual(wrong({ a: 1, n: Number.NaN, e: "z", l: {} }), [
      "input.a is no text",
      "input.n needs a number",
      "input.e is none of its choices",
      "input.l is no list"
    ])
    assert.deepStrictEqual(wrong({ a: "1", l: [null] }), ["input.l[0] is missing"])
    assert.deepStrictEqual([wrong(5), wrong(undefined)], [["input is no object"], ["input is missing"]])
    // What is in a box and is no JSON is no value, wherever the box is.
    const typed = new Unreadable("hello world", "Unexpected token")
    assert.deepStrictEqual(missing(fieldOf({}), typed), ["input is no JSON"])
    assert.deepStrictEqual(wrong(typed), ["input is no JSON"])
    assert.deepStrictEqual(
      [valueIn(' {"__proto__":1} '), valueIn(" ")],
      [JSON.parse('{"__proto__":1}'), undefined]
    )
    for (const text of ["hello world", "{", '{"a":[1e400]}']) {
      const read = valueIn(text)
      assert.isTrue(read instanceof Unreadable && read.text === text && read.problem !== "", text)
    }
    const deep = fieldOf({ anyOf: [{ type: "object", properties: { any: {} } }, { type: "null" }] })
    assert.deepStrictEqual(missing(deep, { any: typed }), ["input.any is no JSON"])
    // Also where it is sent as JSON, whole.
    assert.deepStrictEqual(missing(fieldOf({}), { any: [typed], much: Number.NaN }), [
      "input.any[0] is no JSON",
      "input.much is no number"
    ])
  })

  it("says what a schema calls a member, and what it is when nobody gives it", () => {
    const field = fieldOf({
      type: "object",
      required: ["mode", "depth", "yes"],
      properties: {
        mode: { enum: ["a", "b"], title: "How it is done", default: "b" },
        depth: { type: "integer", title: "between(1, 5)", default: "deep" },
        yes: { type: "boolean", title: "int" },
        note: { type: "string", default: "none" }
      }
    })
    assert.deepStrictEqual(
      field.type === "object" ? field.members.map(({ otherwise, title }) => [title, otherwise]) : [],
      [
        ["How it is done", "b"],
        [undefined, undefined],
        [undefined, undefined],
        [undefined, "none"]
      ]
    )
    assert.deepStrictEqual(initial(field, true), { mode: "b" })
    assert.deepStrictEqual(missing(field, initial(field, true)), [
      "input.depth is missing",
      "input.yes is missing"
    ])
  })

  it("says what to do about a refusal, by what was asked for", () => {
    assert.match(adviceFor("PERMISSION_DENIED") ?? "", /lease that does/)
    assert.match(adviceFor("PERMISSION_DENIED", undefined, "cancel") ?? "", /--cancel principal/)
    assert.strictEqual(adviceFor("TIMEOUT", undefined, "cancel"), adviceFor("TIMEOUT"))
    assert.isUndefined(adviceFor("constructor", undefined, "cancel"))
    assert.notMatch(adviceFor("INTERNAL_ERROR") ?? "", /submit it again/)
  })

  it("makes a form of what a few references make endless, or very much", () => {
    const next = (i: number) => ({ $ref: `#/$defs/${i + 1}` })
    const doubled = Array.from({ length: 40 }, (_, i) => [i, { anyOf: [next(i), next(i)] }] as const)
    const each = Array.from({ length: 60 }, (_, i) => [`p${i}`, { $ref: "#" }] as const)
    for (const schema of [
      { anyOf: [{ $ref: "#" }, { type: "string" }] },
      { allOf: [{ $ref: "#" }] },
      { $ref: "#/$defs/0", $defs: Object.fromEntries(doubled) },
      { type: "object", properties: Object.fromEntries(each) }
    ])
      assert.isBelow(JSON.stringify(fieldOf(schema)).length, 1_000_000)
  })

  it("copies a submit as a command and as code, whatever is in it", () => {
    const submission = {
      agent: "work@1.0.0",
      input: { text: "it's $(rm -rf /) `x` </script>" },
      lease: { "fs.read": ["/src/**"], "cost.budget": ["USD:1"] },
      expiresIn: "10m",
      maxRuntimeSec: 5,
      key: ""
    }
    assert.strictEqual(quoted("it's"), `'it'\\''s'`)
    const command = asCommand(submission, "ws://127.0.0.1:7777/arcp")
    assert.include(command, `--input '{"text":"it'\\''s $(rm -rf /) \`x\` </script>"}'`)
    assert.include(command, "--budget USD:1")
    assert.notInclude(asCode(submission, "ws://x/arcp"), "</script>")
    assert.strictEqual(durationMs("10m"), 600_000)
    assert.isUndefined(durationMs("soon"))
    assert.strictEqual(duration(3_661_000), "1 h 1 min")
  })

  it("says the sum of much that happens, and of two things about the same the newer", () => {
    const line = new Announcements()
    for (let i = 0; i < 1_000; i++) line.add(`${i} jobs`, "jobs")
    line.add("copied")
    line.add("copied")
    assert.deepStrictEqual([line.next(), line.next(), line.next()], ["999 jobs", "copied", undefined])
    for (let i = 0; i < 1_000; i++) line.add(`thing ${i}`)
    assert.strictEqual(line.next(), "thing 996")
    const tidings = new Tidings()
    assert.isUndefined(tidings.told())
    // What waits for its turn is told whole, however often it was to be told.
    for (let i = 0; i < 3; i++) {
      tidings.take(undefined, "running")
      line.add(() => tidings.told(), "jobs")
    }
    for (let i = 0; i < 3; i++) line.next()
    assert.strictEqual(line.next(), "3 new jobs")
    assert.isUndefined(line.next())
    for (let i = 0; i < 1_200; i++) tidings.take(undefined, "running")
    for (let i = 0; i < 3; i++) tidings.take("running", "success")
    tidings.take("running", "error")
    tidings.take("error", "error")
    assert.strictEqual(tidings.told(), "1\u202f200 new jobs, 3 done, 1 failed")
    assert.isUndefined(tidings.told())
  })

  it("tells who watches the list of what is new in it, and of nothing else", () => {
    const table = new JobTable()
    const heard: Array<string> = []
    const away = table.watch(({ status }, before) =>
      heard.push(`${before?.status ?? "nothing"} to ${status}`)
    )
    const entry = (status: JobStatus, agent = "a@1.0.0") => ({
      ...{ job_id: "j", agent, status, lease: {}, parent_job_id: null },
      created_at: at(0),
      last_event_seq: 0
    })
    for (const status of ["pending", "pending", "running", "success"] as const) table.take([entry(status)])
    away()
    table.take([entry("error")])
    assert.deepStrictEqual(heard, ["nothing to pending", "pending to running", "running to success"])
    table.take([{ ...entry("running", "b@1.0.0"), job_id: "k", waiting_for: ["i"] }])
    assert.deepStrictEqual(
      [table.asking(Route.noFilters, 0), table.asking({ ...Route.noFilters, agent: "a" }, 0)],
      [1, 0]
    )
    const only = { ...Route.noFilters, agent: "a", status: ["running" as const] }
    assert.deepStrictEqual(
      [letsThrough(only, 0)(entry("error")), letsThrough(only, 0, { ofAnyStatus: true })(entry("error"))],
      [false, true]
    )
  })

  it("looks at the members of a value once, and at many values in shares of a frame", () => {
    let asked = 0
    const value = new Proxy(Object.fromEntries(Array.from({ length: 1_000 }, (_, i) => [`k${i}`, i])), {
      ownKeys: (of) => {
        asked++
        return Reflect.ownKeys(of)
      }
    })
    assert.strictEqual(namesOf(value).length, 1_000)
    assert.match(brief(value, 20), /^\{"k0":0,"k1":1/)
    assert.strictEqual(namesOf(value).length, 1_000)
    assert.strictEqual(asked, 1)
    assert.deepStrictEqual(
      [openAtFirst(3, 100), openAtFirst(1_000_000, 100), openAtFirst(0, 100)],
      [66, 2, 200]
    )
    // Each takes 3 ms: three of them are a frame.
    let now = 0
    let frames = 0
    let done = 0
    let begin: () => void = () => {}
    const shares = new Shares(
      8,
      () => now,
      (next) => {
        begin = next
      }
    )
    for (let i = 0; i < 30; i++) {
      const look = () => {
        shares.run(() => {
          now += 3
          done++
        }, look)
      }
      look()
    }
    assert.strictEqual(done, 3)
    for (; done < 30; frames++) begin()
    assert.strictEqual(frames, 9)
  })

  it("reads what Prometheus reads", () => {
    const text = (n: number) =>
      `# HELP x\nx{a="1",b="q\\"}"} ${n}\nx{a="2"} 1\nh_bucket{le="0.1"} ${n}\nh_bucket{le="+Inf"} ${n * 2}\n`
    assert.strictEqual(Prometheus.total(Prometheus.parse(text(3)), "x"), 4)
    assert.strictEqual(Prometheus.total(Prometheus.parse(text(3)), "x", { a: "2" }), 1)
    assert.isUndefined(Prometheus.total([], "x"))
    assert.strictEqual(
      Prometheus.quantile(Prometheus.parse(text(9)), Prometheus.parse(text(3)), "h", 0.5),
      0.1
    )
  })
})

describe("whether the page is connected", () => {
  it("counts what was lost, once each, and what came back, over the sessions that it had", () => {
    const told: Array<string> = []
    const stop = Presence.onConnection(({ kind, text }) => told.push(`${kind}: ${text}`))
    const counts = () => [Presence.losses.value, Presence.connections.value]
    Presence.lost("refused")
    Presence.arrived(undefined)
    assert.deepStrictEqual(counts(), [0, 1])
    Presence.lost("cut")
    Presence.lost("refused")
    assert.deepStrictEqual(counts(), [1, 1])
    Presence.arrived(7)
    Presence.arrived(7)
    assert.deepStrictEqual(counts(), [1, 2])
    // What the page has dropped itself is not lost, and tells the agents anew all the same.
    Presence.dropped()
    Presence.lost("dropped")
    assert.strictEqual(Presence.phase.value._tag, "Away")
    Presence.arrived(8)
    assert.deepStrictEqual(counts(), [1, 3])
    Presence.lost("the session is gone")
    Presence.dropped()
    Presence.arrived(undefined)
    assert.deepStrictEqual(counts(), [2, 4])
    stop()
    assert.deepStrictEqual(told, [
      "lost: the connection was lost: cut",
      "back: resumed after event 7; nothing is missing",
      "lost: the connection was lost: the session is gone",
      "back: connected again"
    ])
  })
})
