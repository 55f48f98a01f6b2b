import * as FileSystem from "@effect/platform/FileSystem"
import * as NodeContext from "@effect/platform-node/NodeContext"
import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as SecretsLayer from "../../../src/layers/runtime/Secrets.js"
import { agents } from "../../../src/programs/agents/demo.js"
import { languageOf } from "../../../src/programs/agents/survey/languages.js"
import { pieces, report } from "../../../src/programs/agents/survey/report.js"
import { Scanner } from "../../../src/programs/agents/survey/scan.js"
import { Secrets } from "../../../src/services/runtime/Secrets.js"
import { type Recorder, recorder, run } from "./recorder.js"

const layer = Layer.merge(NodeContext.layer, SecretsLayer.layer)

/** A directory with these files, removed with the scope. */
const tree = (files: Record<string, string | Uint8Array>) =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const root = yield* fs.makeTempDirectoryScoped()
    const write = Effect.fnUntraced(function* ([path, content]: [string, string | Uint8Array]) {
      const slash = path.lastIndexOf("/")
      if (slash > 0) yield* fs.makeDirectory(`${root}/${path.slice(0, slash)}`, { recursive: true })
      yield* fs.writeFile(
        `${root}/${path}`,
        typeof content === "string" ? new TextEncoder().encode(content) : content
      )
    })
    yield* Effect.forEach(Object.entries(files), write, { concurrency: 16, discard: true })
    return root
  })

interface Summary {
  readonly files: number
  readonly lines: number
  readonly bytes: number
  readonly languages: ReadonlyArray<{
    readonly language: string
    readonly files: number
    readonly lines: number
  }>
}

const summary = (input: unknown, job: Recorder = recorder()) =>
  run(agents, "survey@1.0.0", input, job) as Effect.Effect<Summary, unknown, FileSystem.FileSystem>

const bodies = (job: Recorder, kind: string) => job.events.filter((e) => e.kind === kind).map((e) => e.body)

const repository = {
  ".git/HEAD": "ref: refs/heads/main\n",
  ".gitignore": "node_modules/\n*.log\n!keep.log\n/out\n",
  "README.md": "# Title\n\nTODO: write | more `here`\n",
  "src/a.ts": "const a = 1\n// FIXME broken\nconst b = 2",
  "src/b.ts": "",
  "src/gen/.gitignore": "*\n!.gitignore\n!kept.ts\n",
  "src/gen/made.ts": "x\n",
  "src/gen/kept.ts": "y\n",
  "src/out/x.py": "print(1)\n",
  "out/y.py": "print(2)\n",
  "debug.log": "nothing\n",
  "keep.log": "something\n",
  "node_modules/x/index.js": "TODO\n",
  "logo.png": Uint8Array.of(137, 80, 78, 71, 0, 10, 10, 84, 79, 68, 79)
}

describe("survey 1.0.0", () => {
  it.scoped("counts what .gitignore files leave in", () =>
    Effect.gen(function* () {
      const root = yield* tree(repository)
      const job = recorder()
      const found = yield* summary({ root }, job)
      // .gitignore ×2, README.md, a.ts, b.ts, kept.ts, x.py, keep.log, logo.png
      expect(found.files).toBe(9)
      expect(found.lines).toBe(4 + 3 + 3 + 3 + 0 + 1 + 1 + 1)
      const byLanguage = Object.fromEntries(found.languages.map((l) => [l.language, [l.files, l.lines]]))
      expect(byLanguage).toEqual({
        TypeScript: [3, 4],
        Markdown: [1, 3],
        Python: [1, 1],
        Binary: [1, 0],
        Other: [3, 8]
      })
      expect(Object.keys(found).sort()).toEqual(["bytes", "files", "languages", "lines", "root"])
      expect(bodies(job, "status").map((body) => body["phase"])).toEqual(["walking", "scanning"])
    }).pipe(Effect.provide(layer))
  )

  it.scoped("include takes patterns, maxFiles a limit", () =>
    Effect.gen(function* () {
      const root = yield* tree(repository)
      expect((yield* summary({ root, include: "*.ts" })).files).toBe(3)
      expect((yield* summary({ root, include: ["src/a.ts", "*.md"] })).files).toBe(2)
      expect((yield* summary({ root, include: "src" })).files).toBe(5)
      expect((yield* summary({ root, include: "*.ts", maxFiles: 2 })).files).toBe(2)
    }).pipe(Effect.provide(layer))
  )

  it.scoped("leaves out what was installed, unless a .gitignore wants it", () =>
    Effect.gen(function* () {
      const installed = {
        "node_modules/x/index.js": "x\n",
        "packages/a/node_modules/y.js": "y\n",
        "a.js": "a\n"
      }
      const root = yield* tree(installed)
      expect((yield* summary({ root })).files).toBe(1)
      // Below the root it is as the root wants it.
      expect((yield* summary({ root: `${root}/node_modules/x` })).files).toBe(1)
      const wanted = yield* tree({ ...installed, ".gitignore": "!node_modules/\n" })
      expect((yield* summary({ root: wanted })).files).toBe(4)
    }).pipe(Effect.provide(layer))
  )

  it.scoped("a nested .gitignore overrules an outer one", () =>
    Effect.gen(function* () {
      const root = yield* tree({
        ".gitignore": "build\n",
        "a/.gitignore": "!build\n*.tmp\n",
        "a/build/kept.ts": "1\n",
        "a/build/gone.tmp": "1\n",
        "b/build/gone.ts": "1\n"
      })
      expect((yield* summary({ root, include: "*.ts" })).files).toBe(1)
      expect((yield* summary({ root })).files).toBe(3)
    }).pipe(Effect.provide(layer))
  )

  it.scoped("does not follow symbolic links", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const root = yield* tree({ "a.ts": "1\n", "d/b.ts": "2\n" })
      yield* fs.symlink(root, `${root}/d/loop`)
      yield* fs.symlink(`${root}/a.ts`, `${root}/link.ts`)
      yield* fs.symlink("/nowhere", `${root}/dangling`)
      expect((yield* summary({ root })).files).toBe(2)
    }).pipe(Effect.provide(layer))
  )

  it.scoped("a root that does not exist, or is a file, is a clear failure", () =>
    Effect.gen(function* () {
      const root = yield* tree({ "file.txt": "1\n" })
      for (const [path, problem] of [
        [`${root}/nothing`, "does not exist"],
        [`${root}/file.txt`, "is not a directory"]
      ] as const)
        for (const version of ["1.0.0", "2.0.0"])
          expect(
            yield* Effect.flip(run(agents, `survey@${version}`, { root: path }, recorder()))
          ).toMatchObject({
            code: "INTERNAL_ERROR",
            message: `the root ${path} ${problem}`,
            details: { error: { _tag: "SurveyRootError", root: path } }
          })
      expect(yield* Effect.flip(run(agents, "survey@1.0.0", { root: "" }, recorder()))).toMatchObject({
        code: "INVALID_REQUEST"
      })
    }).pipe(Effect.provide(layer))
  )

  it.scoped("goes on when a file cannot be read", () =>
    Effect.gen(function* () {
      const root = yield* tree({ "a.ts": "1\n", "b.ts": "2\n" })
      const fs = yield* FileSystem.FileSystem
      const deny: FileSystem.FileSystem = {
        ...fs,
        open: (path, options) =>
          path.endsWith("a.ts") ? fs.open(`${path}.gone`, options) : fs.open(path, options)
      }
      const job = recorder()
      yield* run(agents, "survey@2.0.0", { root }, job).pipe(
        Effect.provideService(FileSystem.FileSystem, deny)
      )
      expect(bodies(job, "log")).toEqual([
        { level: "warn", message: "1 files or directories could not be read" }
      ])
      expect(job.written.join("")).toContain("1 files, 1 lines")
    }).pipe(Effect.provide(layer))
  )

  it.scoped("ends promptly when it is interrupted", () =>
    Effect.gen(function* () {
      const root = yield* tree(Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`f${i}.ts`, "1\n"])))
      const reached = yield* Deferred.make<void>()
      const job = recorder()
      const progress: Recorder = {
        ...job,
        service: {
          ...job.service,
          progress: (body) =>
            Effect.zipRight(job.service.progress(body), Deferred.succeed(reached, undefined))
        }
      }
      const fiber = yield* Effect.fork(run(agents, "survey@2.0.0", { root }, progress))
      yield* Deferred.await(reached)
      yield* Fiber.interrupt(fiber)
      expect(job.ended).toBe(false)
      expect(bodies(job, "progress").length).toBeLessThan(13)
    }).pipe(Effect.provide(layer))
  )
})

describe("survey 2.0.0", () => {
  it.scoped("streams a report and says what it is", () =>
    Effect.gen(function* () {
      const root = yield* tree(repository)
      const job = recorder()
      expect(yield* run(agents, "survey@2.0.0", { root }, job)).toBeUndefined()
      expect(job.ended).toBe(true)
      expect(job.encoding).toBe("utf8")
      const text = job.written.join("")
      expect(text).toMatch(/^# Survey of /)
      expect(text).toContain("9 files, 16 lines")
      expect(text).toContain("| TypeScript | 3 | 4 | 41 |")
      expect(text).toContain("1 TODO, 1 FIXME:")
      expect(text).toContain("| README.md:3 | TODO | TODO: write \\| more \\`here\\` |")
      expect(text).toContain("| src/a.ts:2 | FIXME | FIXME broken |")

      expect(bodies(job, "status").map((body) => body["phase"])).toEqual(["walking", "scanning", "reporting"])
      expect(bodies(job, "progress")).toEqual([
        { current: 8, total: 9, units: "files" },
        { current: 9, total: 9, units: "files" }
      ])
      expect(bodies(job, "artifact_ref")).toEqual([
        {
          uri: "arcp:job_1/res_1",
          content_type: "text/markdown; charset=utf-8",
          byte_size: new TextEncoder().encode(text).length,
          sha256: yield* Effect.flatMap(Secrets, (secrets) => secrets.digest(text))
        }
      ])
      const metrics = Object.fromEntries(bodies(job, "metric").map((m) => [String(m["name"]), m]))
      expect(metrics["survey.files"]).toMatchObject({ value: 9, unit: "files" })
      expect(metrics["survey.lines"]).toMatchObject({ value: 16, unit: "lines" })
      expect(metrics["survey.bytes"]).toMatchObject({ value: 164, unit: "bytes" })
      expect(metrics["survey.duration"]).toMatchObject({ unit: "ms" })
    }).pipe(Effect.provide(layer))
  )

  it.scoped("reports progress per many files, not per file", () =>
    Effect.gen(function* () {
      const root = yield* tree(
        Object.fromEntries(Array.from({ length: 2_000 }, (_, i) => [`${i}.ts`, "1\n"]))
      )
      const job = recorder()
      yield* run(agents, "survey@2.0.0", { root }, job)
      const progress = bodies(job, "progress")
      expect(progress.length).toBeLessThanOrEqual(200)
      expect(progress.length).toBeGreaterThan(50)
      expect(progress.at(-1)).toMatchObject({ current: 2_000, total: 2_000 })
    }).pipe(Effect.provide(layer))
  )

  it.scoped("an empty directory has a report too", () =>
    Effect.gen(function* () {
      const root = yield* tree({})
      const job = recorder()
      yield* run(agents, "survey@2.0.0", { root }, job)
      expect(job.written.join("")).toContain("0 files, 0 lines, 0 B.")
      expect(bodies(job, "progress")).toEqual([])
    }).pipe(Effect.provide(layer))
  )
})

describe("Scanner", () => {
  const scan = (text: string, pieceSize: number) => {
    const scanner = new Scanner()
    const bytes = new TextEncoder().encode(text)
    for (let i = 0; i < bytes.length; i += pieceSize) scanner.push(bytes.subarray(i, i + pieceSize))
    return scanner.finish(bytes.length)
  }

  it("sees the same however the file is cut", () => {
    const text = "a TODO é\n\nFIXME(x): 😀 two\nTODOS are none, nor is a MYTODO\r\n// TODO last"
    const whole = scan(text, 1_000)
    expect(whole).toMatchObject({ lines: 5, binary: false, todo: 2, fixme: 1 })
    expect(whole.marks).toEqual([
      { kind: "TODO", line: 1, text: "TODO é" },
      { kind: "FIXME", line: 3, text: "FIXME(x): 😀 two" },
      { kind: "TODO", line: 5, text: "TODO last" }
    ])
    for (const size of [1, 2, 3, 7]) expect(scan(text, size)).toEqual(whole)
  })

  it("counts lines with and without a last newline", () => {
    expect(scan("", 10).lines).toBe(0)
    expect(scan("\n", 10).lines).toBe(1)
    expect(scan("a", 10).lines).toBe(1)
    expect(scan("a\nb\n", 1).lines).toBe(2)
  })

  it("does not hold a long line, and cuts the text at a code point", () => {
    const long = scan(`TODO ${"😀".repeat(500)}${"x".repeat(100_000)} FIXME\nTODO\n`, 4_096)
    expect(long).toMatchObject({ lines: 2, todo: 2, fixme: 0 })
    const text = long.marks[0]?.text ?? ""
    expect(Array.from(text)).toHaveLength(120)
    expect(text.endsWith("😀…")).toBe(true)
  })

  it("stops at a binary file", () => {
    const scanner = new Scanner()
    expect(scanner.push(Uint8Array.of(84, 79, 68, 79, 0))).toBe(false)
    expect(scanner.finish(99)).toEqual({ bytes: 99, lines: 0, binary: true, todo: 0, fixme: 0, marks: [] })
  })
})

describe("report", () => {
  const empty = {
    root: "/r",
    files: 1_234_567,
    lines: 1,
    bytes: 3 * 1024 * 1024,
    binaryFiles: 2,
    languages: [],
    largest: [{ path: "a|b\n<c>_d_.ts", size: 2048 }],
    todo: 500,
    fixme: 0,
    marks: [{ kind: "TODO" as const, line: 1, text: "TODO x", path: "a|b" }],
    truncated: true,
    unreadable: 3
  }

  it("keeps names in their cells", () => {
    const text = [...report(empty)].join("\n")
    expect(text).toContain("1,234,567 files, 1 lines, 3.0 MiB; 2 of the files are binary.")
    expect(text).toContain("| a\\|b &lt;c&gt;\\_d\\_.ts | 2.0 KiB |")
    expect(text).toContain("500 TODO, 0 FIXME; the first 1:")
    expect(text).toContain("limit on the number of files")
    expect(text).toContain("3 files or directories")
    const tables = text.split("\n\n").filter((block) => block.startsWith("|"))
    expect(tables).toHaveLength(3)
    for (const table of tables)
      expect(new Set(table.split("\n").map((line) => line.split(/(?<!\\)\|/).length)).size).toBe(1)
  })

  it("is cut into pieces between lines", () => {
    const lines = Array.from({ length: 100 }, (_, i) => `line ${i}`)
    const cut = [...pieces(lines, 50)]
    expect(cut.length).toBeGreaterThan(10)
    expect(cut.join("")).toBe(`${lines.join("\n")}\n`)
    for (const piece of cut) expect(piece.endsWith("\n")).toBe(true)
  })
})

it("knows languages by extension or name", () => {
  expect(languageOf("a.TS")).toBe("TypeScript")
  expect(languageOf("Makefile")).toBe("Makefile")
  expect(languageOf("x.tar.gz")).toBe("Other")
  expect(languageOf("constructor")).toBe("Other")
  expect(languageOf("a.__proto__")).toBe("Other")
})
