// Agents for the console's tests: one that does a bit of everything, one that is hostile, one that asks.

import { setTimeout as pause } from "node:timers/promises"
import * as Schema from "effect/Schema"
import { Agent } from "effect-arcp"

/** An image that must not be fetched, markup that must stay text, and what turns text round. */
export const nasty =
  '<img src="http://evil.example/x.png" onerror="alert(1)"><script>document.title = "owned"</script> ' +
  "[a link](javascript:alert(1)) ![pixel](http://evil.example/p.png) \u202Egnp.exe\u202C \u200B\u0007 end"

const report = `# What was found

Three things, **all of them** well:

- the first
- the \`second\`
- [the third](https://example.com/third)

| file | lines |
| --- | ---: |
| a.ts | 12 |
| b.ts | 1200 |

\`\`\`
const answer = 42
\`\`\`
`

const Work = Schema.Struct({
  topic: Schema.String.annotations({ description: "what it is about" }),
  depth: Schema.Int.pipe(Schema.between(1, 5)),
  mode: Schema.Literal("quick", "thorough"),
  pauseMs: Schema.optional(Schema.Number),
  sources: Schema.optional(Schema.Array(Schema.String))
})

const denied = {
  code: "PERMISSION_DENIED",
  message: "fs.read of /etc/passwd is not in the lease",
  retryable: false
}

const work = Agent.fromPromise(
  "work",
  {
    version: "2.1.0",
    durable: true,
    description: "Looks into a topic, step by step, with tools and a helper.",
    input: Work,
    examples: [{ topic: "lakes", depth: 2, mode: "quick" }]
  },
  async ({ depth, pauseMs = 20, topic }, job) => {
    await job.status("researching", { message: topic })
    for (let i = 1; i <= depth * 2; i++) {
      await job.step(`read source ${i}`, async () => {
        await job.toolCall({ tool: "search.web", args: { query: `${topic} ${i}` }, call_id: `c${i}` })
        await pause(pauseMs, undefined, { signal: job.signal })
        if (job.lease["cost.budget"] !== undefined) await job.spend({ currency: "USD", amount: "0.30" })
        await job.toolResult(
          i === 2 ? { call_id: `c${i}`, error: denied } : { call_id: `c${i}`, result: { hits: i } }
        )
      })
      await job.log(i % 2 === 0 ? "warn" : "info", `source ${i} read`, { i })
      await job.progress({ current: i, total: depth * 2, units: "sources" })
    }
    await job.thought("the sources agree")
    if (job.lease["agent.delegate"] !== undefined) {
      const child = await job.delegate("helper", { pauseMs }, { key: "help" })
      await child.result()
    }
    await job.artifact({
      uri: "https://example.com/report.pdf",
      content_type: "application/pdf",
      byte_size: 12_345
    })
    return report
  }
)

const helper = Agent.fromPromise("helper", { version: "1.0.0" }, async ({ pauseMs }, job) => {
  await job.status("helping")
  for (let i = 0; i < 4; i++) {
    await job.toolCall({ tool: "math.add", args: [i, 1], call_id: `h${i}` })
    await pause(pauseMs, undefined, { signal: job.signal })
    await job.toolResult({ call_id: `h${i}`, result: i + 1 })
  }
  return { helped: true }
})

const hostile = Agent.fromPromise("hostile", { version: "1.0.0" }, async (_, job) => {
  await job.status("<b>bold</b>", { message: nasty })
  await job.log("info", `Nothing is ${"W\u0301".repeat(2)}${"\u0301".repeat(100)} drawn over`)
  await job.log("error", nasty, { [nasty]: nasty, __proto__: null })
  await job.thought("x".repeat(200_000))
  await job.toolCall({ tool: nasty, args: { deep: { nasty } }, call_id: nasty })
  await job.toolResult({ call_id: nasty, error: { code: nasty, message: nasty } })
  await job.artifact({ uri: "javascript:alert(1)", content_type: nasty })
  await job.artifact({ uri: "data:text/html,<script>alert(1)</script>", content_type: "text/html" })
  await job.progress({ current: 1, total: 2, units: nasty, message: nasty })
  return `# ${nasty}\n\n${nasty}\n\n| ${nasty.replaceAll("|", "")} |\n| --- |\n| <script>alert(1)</script> |\n`
})

const approve = Agent.fromPromise("approve", { version: "1.0.0", durable: true }, async (_, job) => {
  const yes = await job.input("approval", { prompt: "May it be sent?", choices: ["yes", "no"] })
  const much = await job.input("amount", {
    prompt: "How much?",
    schema: Schema.Struct({ euros: Schema.Number, note: Schema.optional(Schema.String) })
  })
  return { yes, much }
})

/** Asks the same again and again, each time about something else. */
const asks = Agent.fromPromise("asks", { version: "1.0.0", durable: true }, async ({ count }, job) => {
  const answers = []
  for (let i = 1; i <= count; i++)
    answers.push(
      await job.input(`q${i}`, {
        prompt: `Question ${i}`,
        choices: ["yes", "no"],
        about: { amount: i * 100 }
      })
    )
  return answers
})

/** Has a long name, and asks for one of a few long choices. */
const wordy = Agent.fromPromise(
  `wordy.${"long-name".repeat(23)}`,
  { version: "1.0.0", durable: true },
  async (_, job) =>
    job.input("which", {
      prompt: "What now?",
      choices: [
        "Deploy to the production cluster now",
        "Do not deploy",
        "because ".repeat(10),
        "x".repeat(80)
      ]
    })
)

/** Asks for one of many. */
const choose = Agent.fromPromise("choose", { version: "1.0.0", durable: true }, async (_, job) =>
  job.input("which", {
    prompt: "Which one?",
    choices: Array.from({ length: 60 }, (_, i) => `choice ${i + 1}`)
  })
)

/** Says something at once, and ends later. */
const quiet = Agent.fromPromise("quiet", { version: "1.0.0" }, async ({ ms }, job) => {
  await job.log("info", "said")
  await pause(ms, undefined, { signal: job.signal })
  return "ended"
})

/** Asks for a yes or a no; an answer is made of nothing else. */
const sure = Agent.fromPromise("sure", { version: "1.0.0", durable: true }, async (_, job) =>
  job.input("sure", { prompt: "Is it to be sent?", schema: Schema.Boolean })
)

const breaks = Agent.fromPromise("breaks", { version: "1.0.0" }, async (_, job) => {
  await job.log("info", "begins")
  throw new Error("the disk is on fire")
})

/** Of every form of a schema, some. */
const Tree = Schema.Struct({
  name: Schema.String,
  children: Schema.Array(Schema.suspend(() => Tree))
}).annotations({ identifier: "Tree" })
const Odd = Schema.Struct({
  target: Schema.Union(
    Schema.Struct({ kind: Schema.Literal("file"), path: Schema.String }),
    Schema.Struct({ kind: Schema.Literal("web"), port: Schema.Int.pipe(Schema.between(1, 65535)) })
  ),
  limit: Schema.NullOr(Schema.Number),
  loud: Schema.optional(Schema.Boolean),
  nested: Schema.optional(Schema.Struct({ tags: Schema.Array(Schema.Literal("a", "b")) })),
  tree: Schema.optional(Tree)
})
const odd = Agent.fromPromise("odd", { version: "1.0.0", input: Odd }, async (input) => input)

/** A value that is deep, large and of many members. */
const vast = Agent.fromPromise("vast", { version: "1.0.0" }, async (_, job) => {
  let deep = {}
  for (let i = 0; i < 400; i++) deep = { [`d${i}`]: deep }
  await job.toolCall({ tool: "\u001b[31mred\u001b[0m", args: { deep }, call_id: "v" })
  await job.toolResult({
    call_id: "v",
    result: Object.fromEntries(Array.from({ length: 5_000 }, (_, i) => [`k${i}`, "x".repeat(50)]))
  })
  return { deep, list: Array.from({ length: 20_000 }, (_, i) => i) }
})

/** A result that takes long to read as JSON. */
const members = Agent.fromPromise("members", { version: "1.0.0" }, async ({ count }) =>
  Object.fromEntries(Array.from({ length: count }, (_, i) => [`m${i}`, i]))
)

const many = Agent.fromPromise("many", { version: "1.0.0" }, async ({ count }, job) => {
  const levels = ["debug", "info", "info", "info", "warn"]
  for (let i = 0; i < count; i++) {
    if (i % 10 === 0) void job.toolCall({ tool: `tool.${i % 7}`, call_id: `c${i}` })
    if (i % 10 === 5) void job.toolResult({ call_id: `c${i - 5}`, result: i })
    await job.log(levels[i % 5], `line ${i} of the many`)
  }
  return { count }
})

/** A result that is streamed where frames are small. */
const long = Agent.fromPromise("long", { version: "1.0.0" }, async ({ size }) => "x".repeat(size))

/** Asks for lists: of values of any form, and of variants. */
const Party = Schema.Union(
  Schema.Struct({ iban: Schema.String }),
  Schema.Struct({ name: Schema.String, age: Schema.optional(Schema.Int) })
)
const Payment = Schema.Record({ key: Schema.String, value: Schema.Unknown })
const pays = Agent.fromPromise("pays", { version: "1.0.0", durable: true }, async (_, job) => {
  await job.log("info", "asks")
  return job.input("which", {
    prompt: "Which payments?",
    schema: Schema.Struct({ to: Schema.Array(Party), rows: Schema.Array(Payment) })
  })
})

/** Takes numbers of two stretches, what may be null, and a member of any name. */
const Bands = Schema.Struct({
  percent: Schema.Union(Schema.Int.pipe(Schema.between(0, 5)), Schema.Int.pipe(Schema.between(10, 20))),
  sure: Schema.NullOr(Schema.Boolean),
  "first name": Schema.String.annotations({ description: "as in the passport" }),
  id: Schema.Number
})
const bands = Agent.fromPromise("bands", { version: "1.0.0", input: Bands }, async (input) => input)

/** Takes more members than its schema names. */
const More = Schema.Struct({ text: Schema.String }, { key: Schema.String, value: Schema.Unknown })
const more = Agent.fromPromise("more", { version: "1.0.0", input: More }, async (input) => input)

/** Takes its time to stop. */
const slow = Agent.fromPromise("slow", { version: "1.0.0" }, async (_, job) => {
  await job.log("info", "said")
  await new Promise((resolve) => job.signal.addEventListener("abort", resolve))
  await pause(2_000)
})

export const agents = [
  pays,
  bands,
  more,
  slow,
  work,
  helper,
  hostile,
  approve,
  asks,
  wordy,
  choose,
  quiet,
  sure,
  breaks,
  odd,
  vast,
  members,
  many,
  long
]
