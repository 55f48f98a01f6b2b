/** What a job asks: on a terminal, from elsewhere, and what is no answer. */
import { execFileSync, spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as TestContext from "effect/TestContext"
import { afterAll, describe, expect, it } from "vitest"
import { lines, memberMark, membersOf, read } from "../../../src/programs/cli/question.js"
import { pick, questions, unmistaken } from "../../../src/programs/cli/run/answer.js"
import * as Screen from "../../../src/programs/cli/screen.js"
import { inputClosed, inputRequest } from "../../../src/protocol/Vendor.js"
import type { JobEvent } from "../../../src/services/client/ArcpClient.js"
import { run, serving } from "./inProcess.js"

const folder = mkdtempSync(join(tmpdir(), "arcp-asking-"))
afterAll(() => rmSync(folder, { recursive: true }))

const served = ["--agents", "conformance", "--token", "secret=me", "--memory", "--log-level", "none"]
const environmentOf = (url: string) => ({
  ARCP_URL: url,
  ARCP_TOKEN: "secret",
  XDG_STATE_HOME: folder,
  HOME: folder
})

describe("a line is read as an answer", () => {
  const question = { input_id: "i", prompt: "?" }
  it.each([
    [{ schema: { type: "boolean" } }, "Yes", { value: true }],
    [{ schema: { type: "boolean" } }, "n", { value: false }],
    [{ schema: { type: "boolean" } }, "maybe", { problem: "yes or no" }],
    [{ schema: { type: "string" } }, "some text", { value: "some text" }],
    [{ schema: { type: "string" } }, '"quoted"', { value: "quoted" }],
    [{ schema: { type: "integer" } }, "7", { value: 7 }],
    [{ choices: ["a", "b"] }, "2", { value: "b" }],
    [{ choices: ["a", "b"] }, "a", { value: "a" }],
    [{ choices: [3, 1] }, "1", { value: 1 }],
    [{ choices: ["a"] }, "2", { problem: "a number from 1 to 1, or one of the choices" }],
    [{}, "words", { value: "words" }],
    [{}, '{"a":1}', { value: { a: 1 } }],
    [{ schema: { type: "object" } }, "{", { problem: "that is no JSON; a text is in quotes" }]
  ])("%j %s", (more, text, expected) => expect(read({ ...question, ...more }, ` ${text} `)).toEqual(expected))

  it("is held to the schema", () => {
    const schema = { type: "object", required: ["n"], properties: { n: { type: "integer" } } }
    expect(read({ ...question, schema }, '{"n":"x"}')).toHaveProperty("problem")
    expect(read({ ...question, schema }, '{"n":1}')).toEqual({ value: { n: 1 } })
  })

  describe("of an object", () => {
    const schema = {
      $schema: "http://json-schema.org/draft-07/schema#",
      type: "object",
      required: ["yes", "where"],
      properties: {
        yes: { type: "boolean" },
        where: { type: "string", enum: ["here", "there"] },
        note: { type: "string" }
      }
    }
    it("its plain members are asked for one by one, and JSON is not", () => {
      const members = membersOf({ ...question, schema }) ?? []
      expect(members.map(memberMark)).toEqual([
        "  yes: yes or no > ",
        "  where: here | there > ",
        "  note: a text, or nothing > "
      ])
      expect(lines({ ...question, schema })).toEqual(["? ?"])
      const where = members[1]?.question ?? question
      expect([read(where, "there"), read(where, "1")]).toEqual([{ value: "there" }, { value: "here" }])
      expect(read(where, "")).toHaveProperty("problem")
    })
    it("one with members that have members is JSON, and its schema is shown", () => {
      const nested = { ...schema, properties: { ...schema.properties, more: { type: "array" } } }
      expect(membersOf({ ...question, schema: nested })).toBeUndefined()
      expect(lines({ ...question, schema: nested }).join("")).toMatch(/^\? \? {2}as \{"type":"object"/)
    })
    it("a name steers no terminal", () => {
      const [evil] = membersOf({
        ...question,
        schema: { type: "object", properties: { "\u001b[2J": { type: "string" } } }
      }) as [NonNullable<ReturnType<typeof membersOf>>[number]]
      expect(memberMark(evil)).not.toContain("\u001b")
    })
  })

  it("a question steers no terminal", () => {
    const evil = "\u001b[2J\u202e"
    const shown = lines({ input_id: "i", prompt: evil, about: { value: evil, sha256: "" }, choices: [evil] })
    expect(shown.join("")).not.toMatch(/[\u001b\u202e]/)
  })
})

describe("on a terminal", () => {
  const terminal = () => {
    let text = ""
    const screen = Screen.make({
      isTTY: true,
      columns: 80,
      write: (part: string) => {
        text += part
      }
    })
    /** What a person sees of it. */
    const lines = () => text.split("\n").map((line) => line.split("\r\u001b[K").at(-1))
    return { lines, screen }
  }

  it("a question has the place of the bar, which comes again after it", () => {
    const { lines, screen } = terminal()
    screen.progress({ current: 1, total: 1, units: "files" })
    screen.print("? Publish?")
    screen.ask("yes or no > ")
    expect(lines()).toEqual(["? Publish?", "yes or no > "])
    screen.print("info  elsewhere")
    screen.progress({ current: 1, total: 2, units: "files" })
    expect(lines()).toEqual(["? Publish?", "info  elsewhere", "yes or no > "])
    screen.answered()
    expect(lines().at(-1)).toMatch(/50% 1\/2 files$/)
    screen.done()
    screen.print("success in 1 s")
    expect(lines().slice(-2)).toEqual(["success in 1 s", ""])
  })

  it("one that is closed leaves its line", () => {
    const { lines, screen } = terminal()
    screen.ask("> ")
    screen.unasked()
    screen.print("  timed out")
    expect(lines()).toEqual(["> ", "  timed out", ""])
  })
})

it("arcp answer says which choices there are", async () => {
  await serving(served, async (url) => {
    const arcp = (...args: ReadonlyArray<string>) => run(args, environmentOf(url))
    const submit = (choices: ReadonlyArray<unknown>) =>
      arcp("submit", "ask", "--detach", "--input", JSON.stringify({ prompt: "Which?", choices }))
    const job = (await submit(["red", 2])).stdout.trim()
    expect((await arcp("answer", job, "--value", "3")).stderr).toMatch(
      /^error: INVALID_REQUEST: the answer: none of the choices, which are "red", 2$/m
    )
    const long = (await submit(Array.from({ length: 100 }, (_, i) => `choice ${i}`))).stdout.trim()
    expect((await arcp("answer", long, "--value", "3")).stderr).toMatch(/none of the choices$/m)
  })
})

it("arcp answer lists what is open, refuses what is none, and answers; arcp jobs --waiting finds it", async () => {
  await serving(served, async (url) => {
    const arcp = (...args: ReadonlyArray<string>) => run(args, environmentOf(url))
    const input = { prompt: "Deploy?", schema: { type: "boolean" }, about: { plan: 7 } }
    const job = (await arcp("submit", "ask", "--detach", "--input", JSON.stringify(input))).stdout.trim()
    await arcp("submit", "echo")

    const listed = await arcp("jobs", "--waiting")
    expect(listed.stdout.trimEnd().split("\n")).toHaveLength(2)
    expect(listed.stdout).toMatch(new RegExp(`^${job} +waiting `, "m"))

    // What is shown as a status can be asked for.
    const count = async (...statuses: ReadonlyArray<string>) => {
      const { stdout } = await arcp("jobs", "--json", ...statuses.flatMap((status) => ["--status", status]))
      return stdout.split("\n").length - 1
    }
    expect(await count("waiting")).toBe(1)
    expect(await count("waiting", "success")).toBe(2)
    expect(await count("waiting", "running")).toBe(1)
    expect(await count("waiting", "error")).toBe(1)
    expect(await count("success")).toBe(1)

    // Nobody can be asked here: what is asked is shown.
    const shown = await arcp("answer", job)
    expect(shown.code).toBe(2)
    expect(shown.stderr).toMatch(/--value JSON is missing[\s\S]*\? Deploy\?[\s\S]*"plan": 7/)
    expect((await arcp("answer", job, "--value", "{")).stderr).toContain("--value is not JSON")
    expect((await arcp("answer", job, "--value", '"perhaps"')).stderr).toContain("INVALID_REQUEST")
    const other = await arcp("answer", job, "--value", "true", "--about", "0".repeat(64))
    expect(other.stderr).toContain("shows what it is about now")

    const { waiting_for: [named = ""] = [] } = JSON.parse(
      (await arcp("jobs", "--waiting", "--json")).stdout
    ) as {
      readonly waiting_for?: ReadonlyArray<string>
    }
    const perhaps = await arcp("answer", job, named, "--value", '"perhaps"')
    // What the question is about was said: the schema is looked at after it.
    expect(perhaps.stderr).toContain("INVALID_REQUEST")
    expect(perhaps.stderr).not.toContain("about")
    const otherToo = await arcp("answer", job, named, "--value", "true", "--about", "0".repeat(64))
    expect(otherToo.stderr).toContain("about")

    const answered = await arcp("answer", job, "--value", "true", "--json")
    expect(answered.code).toBe(0)
    const { input_id, ...more } = JSON.parse(answered.stdout) as { input_id: string }
    expect(more).toEqual({ job_id: job, prompt: "Deploy?", answered: true })
    const watched = await arcp("watch", job)
    expect(watched.stdout).toBe("true\n")
    expect(watched.stderr).toMatch(
      new RegExp(`\\? Deploy\\? {2}\\(arcp answer ${job} inp_\\w+\\)\\n {2}answered by me`)
    )

    expect((await arcp("answer", job, "--value", "true")).stderr).toContain("waits for no answer")
    // Given again it is the same answer, and another one is not.
    expect(await arcp("answer", job, input_id, "--value", "true")).toMatchObject({
      code: 0,
      stdout: `${input_id} is answered: Deploy?\n`
    })
    const second = await arcp("answer", job, input_id, "--value", "false")
    expect(second.code).toBe(1)
    expect(second.stderr).toContain("another answer has been given")
    expect((await arcp("jobs", "--waiting")).stderr).toContain("no jobs")
  })
})

describe("arcp answer", () => {
  const request = (input_id: string) => ({ input_id, prompt: `Is it ${input_id}?` })
  const askedOf = (ids: ReadonlyArray<string>) => new Map(ids.map((id) => [id, request(id)]))
  const eventOf = (at: number): JobEvent => ({
    kind: "log",
    ts: new Date(at).toISOString(),
    eventSeq: 1,
    body: { level: "info", message: "on" }
  })
  const eventAt = (at: number) => Effect.sync(() => eventOf(at))

  it("says of a question that is not retained any more that the job waits, and how it is answered", async () => {
    const said = (ids: ReadonlyArray<string>, open: ReadonlyArray<string>, input?: string) =>
      Effect.runPromise(
        Effect.merge(
          Effect.map(
            pick({ jobId: "job_1", ids, asked: askedOf(open), hasAskedBefore: false }, input),
            ({ input_id }) => input_id
          )
        )
      ).then((it) => (typeof it === "string" ? it : it.message))
    expect(await said(["inp_1"], [])).toBe(
      "job_1 waits for inp_1, whose question cannot be read any more: arcp answer job_1 inp_1 --value JSON"
    )
    expect(await said(["inp_1", "inp_2"], ["inp_2"])).toMatch(
      /several answers[\s\S]*inp_1 .*cannot be read any more[\s\S]*inp_2 +Is it inp_2/
    )
    expect(await said(["inp_1", "inp_2"], ["inp_2"], "inp_1")).toMatch(/waits for inp_1, whose/)
    expect(await said(["inp_1", "inp_2"], ["inp_2"], "inp_2")).toBe("inp_2")
    expect(await said(["inp_1"], ["inp_1"])).toBe("inp_1")
    expect(await said([], [])).toMatch(/waits for no answer/)
  })

  const asking = (input_id: string): JobEvent => ({
    ...eventOf(0),
    kind: inputRequest,
    body: request(input_id)
  })
  const closing = (input_id: string): JobEvent => ({ ...eventOf(0), kind: inputClosed, body: { input_id } })
  const gap: JobEvent = {
    ...eventOf(0),
    kind: "gap",
    body: { reason: "evicted", replayed: true, message: "not retained" }
  }

  it("reads a history however long that takes, and waits no longer for what is not in it", () =>
    Effect.gen(function* () {
      const slow = Stream.repeatEffect(Effect.delay(eventAt(0), "4 seconds")).pipe(
        Stream.take(9),
        Stream.concat(Stream.fromEffect(Effect.delay(Effect.succeed(asking("inp_1")), "4 seconds"))),
        Stream.concat(Stream.never)
      )
      const asked = yield* Effect.fork(questions({ events: slow }, ["inp_1", "inp_2"]))
      yield* TestClock.adjust("44 seconds")
      expect(yield* Fiber.poll(asked)).toEqual(Option.none())
      yield* TestClock.adjust("10 seconds")
      expect(yield* Fiber.join(asked)).toEqual({
        ids: ["inp_1", "inp_2"],
        asked: askedOf(["inp_1"]),
        hasAskedBefore: false
      })
    }).pipe(Effect.provide(TestContext.TestContext), Effect.runPromise))

  it.each([
    ["as soon as it emits anew", 0, "3 seconds", "8 seconds"],
    ["a while, where this clock is ahead", 3_600_000, "59 seconds", "1 seconds"]
  ] as const)("waits for the question of a job that goes on %s", (_, ahead, before, after) =>
    Effect.gen(function* () {
      yield* TestClock.adjust(10_000 + ahead)
      const now = Effect.flatMap(Clock.currentTimeMillis, (at) => eventAt(at - ahead))
      // History that takes its time, and then what happens now.
      const events = Stream.concat(
        Stream.repeatEffect(Effect.delay(eventAt(1), "1 second")).pipe(Stream.take(2)),
        Stream.repeatEffect(Effect.delay(now, "1 second"))
      )
      const asked = yield* Effect.fork(questions({ events }, ["inp_1"]))
      yield* TestClock.adjust(before)
      expect(yield* Fiber.poll(asked)).toEqual(Option.none())
      yield* TestClock.adjust(after)
      expect(Option.isSome(yield* Fiber.poll(asked))).toBe(true)
      expect(yield* Fiber.join(asked)).toMatchObject({ ids: ["inp_1"], asked: askedOf([]) })
    }).pipe(Effect.provide(TestContext.TestContext), Effect.runPromise)
  )

  it("waits for no question that is closed meanwhile", () =>
    Effect.gen(function* () {
      const events = Stream.make(
        ...[asking("inp_1"), asking("inp_3"), closing("inp_1"), closing("inp_2")]
      ).pipe(Stream.concat(Stream.never))
      const waiting = yield* questions({ events }, ["inp_1", "inp_2", "inp_3"])
      expect(waiting).toMatchObject({ ids: ["inp_3"], hasAskedBefore: true })
    }).pipe(Effect.runPromise))

  it("does not answer a later question with what was meant for an earlier one", () =>
    Effect.gen(function* () {
      const saidAfter = (...before: ReadonlyArray<JobEvent>) =>
        Effect.gen(function* () {
          const events = Stream.concat(Stream.make(...before, asking("inp_2")), Stream.never)
          const waiting = { jobId: "job_1", ...(yield* questions({ events }, ["inp_2"])) }
          const picked = yield* pick(waiting, undefined)
          yield* unmistaken(waiting, picked)
          return picked.input_id
        }).pipe(Effect.catchAll(({ message }) => Effect.succeed(message)))
      expect(yield* saidAfter(eventOf(0))).toBe("inp_2")
      const refused = /^job_1 has asked before; .*: arcp answer job_1 inp_2 --value [^\n]*\n\? Is it inp_2\?$/
      expect(yield* saidAfter(asking("inp_1"), closing("inp_1"))).toMatch(refused)
      // What is not retained may have been a question.
      expect(yield* saidAfter(gap)).toMatch(refused)
    }).pipe(Effect.runPromise))
})

const hasScript = (() => {
  try {
    execFileSync("script", ["-qec", "true", "/dev/null"], { stdio: "ignore" })
    return true
  } catch {
    return false
  }
})()

/** Runs a command on a terminal of its own; `type` is asked for what to type after whatever has been shown. */
const onTerminal = (
  args: ReadonlyArray<string>,
  env: Readonly<Record<string, string>>,
  type: (shown: string) => string | undefined
): Promise<{ readonly shown: string; readonly code: number | null }> =>
  new Promise((resolve) => {
    const program = fileURLToPath(new URL("../../../dist/programs/arcp.js", import.meta.url))
    const quoted = [process.execPath, program, ...args].map((word) => `'${word.replaceAll("'", "'\\''")}'`)
    const child = spawn("script", ["-qec", quoted.join(" "), "/dev/null"], {
      env: { ...env, PATH: process.env["PATH"] ?? "", NO_COLOR: "1", SHELL: "/bin/sh" },
      stdio: ["pipe", "pipe", "inherit"]
    })
    let shown = ""
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      shown += text
      const typed = type(shown)
      if (typed !== undefined) child.stdin.write(typed)
    })
    child.on("close", (code) => resolve({ shown, code }))
  })

/** Types each text once, after what is shown ends like its pattern. */
const typing = (...steps: ReadonlyArray<readonly [after: RegExp, text: string]>) => {
  let next = 0
  return (shown: string) => {
    const step = steps[next]
    if (step === undefined || !step[0].test(shown)) return undefined
    next++
    return step[1]
  }
}

describe.skipIf(!hasScript)("on a terminal (where there is a script)", () => {
  it("arcp submit asks, again after what is no answer, and goes on", async () => {
    await serving(served, async (url) => {
      const input = JSON.stringify({ prompt: "Really?", schema: { type: "boolean" }, about: [1] })
      const { code, shown } = await onTerminal(
        ["submit", "ask", "--input", input],
        environmentOf(url),
        typing([/yes or no > $/, "maybe\n"], [/maybe[\s\S]*yes or no > $/, "yes\n"])
      )
      expect(code).toBe(0)
      expect(shown).toMatch(/\? Really\?[\s\S]*answered by me[\s\S]*true/)
    })
  })

  it("an object is asked for by its members, or written whole", async () => {
    await serving(served, async (url) => {
      const schema = {
        type: "object",
        required: ["yes"],
        properties: { yes: { type: "boolean" }, note: { type: "string" } },
        additionalProperties: false
      }
      const ask = ["submit", "ask", "--input", JSON.stringify({ prompt: "Deploy?", schema })]
      const asked = await onTerminal(
        ask,
        environmentOf(url),
        typing(
          [/yes or no > $/, "perhaps\n"],
          [/perhaps[\s\S]*yes or no > $/, "y\n"],
          [/or nothing > $/, "fine\n"]
        )
      )
      expect(asked.code).toBe(0)
      expect(asked.shown).toMatch(/"note": "fine",\s+"yes": true/)
      const left = await onTerminal(
        ask,
        environmentOf(url),
        typing([/yes or no > $/, "y\n"], [/or nothing > $/, "\n"])
      )
      expect(left.shown).toMatch(/\{\s+"yes": true\s+\}/)
      const whole = await onTerminal(ask, environmentOf(url), typing([/yes or no > $/, '{"yes":false}\n']))
      expect(whole.shown).toMatch(/\{\s+"yes": false\s+\}/)
    })
  })

  it("Ctrl-C leaves the job as it is, and arcp watch asks again", async () => {
    await serving(served, async (url) => {
      const input = JSON.stringify({ prompt: "Which?", choices: ["red", "blue"] })
      const left = await onTerminal(
        ["submit", "ask", "--input", input],
        environmentOf(url),
        typing([/1 to 2 > $/, "\u0003"])
      )
      expect(left.code).toBe(130)
      expect(left.shown).toMatch(/left as it is: arcp answer job_\w+/)
      const job = /job_\w{26}/.exec(left.shown)?.[0] as string
      const watched = await onTerminal(["watch", job], environmentOf(url), typing([/1 to 2 > $/, "2\n"]))
      expect(watched).toMatchObject({ code: 0 })
      expect(watched.shown).toContain("blue")
    })
  })
})
