/**
 * A reporter of vitest: what the tests that ran and passed have verified. After a whole run it writes the report that
 * `docs/conformance.mjs` reads, and fails the run when a requirement was verified by nobody over a transport where it
 * holds. A run of some files or names judges nothing. It also says why tests were skipped, which failed and how, and the
 * counts in one line, last.
 */
import { mkdirSync, writeFileSync } from "node:fs"
import { dirname, relative } from "node:path"
import type { Reporter, TestCase, TestModule, TestRunEndReason, TestSpecification, Vitest } from "vitest/node"
import { type Requirement, requirements } from "../e2e/requirements.js"
import { everywhere, files, type Transport, transports } from "../e2e/transports.js"

export interface Report {
  readonly requirements: ReadonlyArray<{
    readonly id: string
    readonly section: string
    readonly behaviour: string
    /** Where it holds. */
    readonly on: ReadonlyArray<Transport>
    /** Why not elsewhere; empty when it holds everywhere. */
    readonly why: string
    readonly verified: ReadonlyArray<{ readonly file: string; readonly test: string; readonly on: Transport }>
  }>
}

export const reportFile = new URL("../../node_modules/.cache/conformance.json", import.meta.url).pathname

/** What of a test the report needs. */
export type Finished = Pick<TestCase, "fullName" | "meta" | "result"> & {
  readonly module: { readonly moduleId: string }
}

type Verification = Report["requirements"][number]["verified"][number]

const root = new URL("../../", import.meta.url).pathname
const fileOf = (test: Finished): string => relative(root, test.module.moduleId)

/** id → the passed tests that verified it. */
const verifications = (tests: ReadonlyArray<Finished>): Map<string, Array<Verification>> => {
  const found = new Map<string, Array<Verification>>()
  for (const test of tests) {
    if (test.result().state !== "passed") continue
    for (const { id, transport } of test.meta().verified ?? []) {
      const verified = { file: fileOf(test), test: test.fullName, on: transport }
      found.set(id, [...(found.get(id) ?? []), verified])
    }
  }
  return found
}

export const report = (
  tests: ReadonlyArray<Finished>,
  all: Readonly<Record<string, Requirement>> = requirements
): Report => {
  const found = verifications(tests)
  return {
    requirements: Object.entries(all).map(([id, { behaviour, section, transports }]) => {
      const { on, why } = transports ?? everywhere
      return { id, section, behaviour, on, why, verified: found.get(id) ?? [] }
    })
  }
}

/** `id over transport`, for each that nobody verified. */
export const missing = ({ requirements }: Report): ReadonlyArray<string> =>
  requirements.flatMap(({ id, on, verified }) =>
    on
      .filter((transport) => !verified.some((test) => test.on === transport))
      .map((transport) => `${id} over ${transport}`)
  )

const grouped = <A>(all: ReadonlyArray<A>, key: (a: A) => string): Map<string, Array<A>> => {
  const groups = new Map<string, Array<A>>()
  for (const each of all) groups.set(key(each), [...(groups.get(key(each)) ?? []), each])
  return groups
}

export default class Conformance implements Reporter {
  private vitest: Vitest | undefined
  private ran: ReadonlyArray<TestSpecification> = []

  onInit(vitest: Vitest): void {
    this.vitest = vitest
  }

  onTestRunStart(specifications: ReadonlyArray<TestSpecification>): void {
    this.ran = specifications
  }

  async onTestRunEnd(
    modules: ReadonlyArray<TestModule>,
    _: ReadonlyArray<unknown>,
    reason: TestRunEndReason
  ): Promise<void> {
    const vitest = this.vitest
    if (vitest === undefined) return
    const cases = modules.flatMap((module) => [...module.children.allTests()])
    const whole = reason !== "interrupted" && (await this.isWhole(vitest))
    if (whole) this.excludedFiles()
    this.skipped(vitest, cases)
    if (whole) this.judge(report(cases))
    const count = (state: string) => cases.filter((test) => test.result().state === state).length
    // A file that does not load, or whose hooks fail, has no failed test.
    const broken = modules.filter(
      (module) =>
        module.state() === "failed" &&
        ![...module.children.allTests()].some((test) => test.result().state === "failed")
    )
    this.failed(cases, broken)
    console.log(
      `${count("passed")} passed, ${count("failed") + broken.length} failed, ${count("skipped")} skipped`
    )
  }

  /** Once more at the end, where the last lines of a long log are all that somebody has. */
  private failed(cases: ReadonlyArray<TestCase>, broken: ReadonlyArray<TestModule>): void {
    const firstLines = (errors: ReadonlyArray<{ readonly message: string }> | undefined) =>
      errors?.map(({ message }) => message.slice(0, 400)).join(" | ") ?? "without a reason"
    for (const test of cases) {
      const result = test.result()
      if (result.state !== "failed") continue
      const ms = Math.round(test.diagnostic()?.duration ?? 0)
      console.log(
        `failed over ${test.project.name} after ${ms} ms: ${fileOf(test)} > ${test.fullName}\n  ${firstLines(result.errors)}`
      )
    }
    for (const module of broken)
      console.log(`failed: ${relative(root, module.moduleId)}\n  ${firstLines(module.errors())}`)
  }

  /** Every file of every project, and every test in them. */
  private async isWhole(vitest: Vitest): Promise<boolean> {
    const { shard, testNamePattern } = vitest.config
    if (shard !== undefined || testNamePattern !== undefined) return false
    if (vitest.projects.length < transports.length) return false
    return this.ran.length >= (await vitest.globTestSpecifications()).length
  }

  private excludedFiles(): void {
    for (const [name, { on, why }] of Object.entries(files))
      console.log(`test/e2e/${name}.test.ts runs over ${on.join(" and ")} only: ${why}`)
  }

  private skipped(vitest: Vitest, cases: ReadonlyArray<TestCase>): void {
    const skipped = cases.flatMap((test) => {
      const result = test.result()
      if (result.state !== "skipped") return []
      // What is skipped by its declaration says in its name where it runs. What was not asked for needs no reason.
      const note = result.note ?? test.fullName
      return result.note === undefined && vitest.config.testNamePattern !== undefined ? [] : [{ test, note }]
    })
    for (const [note, all] of grouped(skipped, ({ note, test }) => `${test.project.name}: ${note}`)) {
      console.log(`skipped over ${note}`)
      const names = grouped(all, ({ test }) => fileOf(test))
      for (const [file, tests] of names) console.log(`  ${file}: ${tests.length}`)
    }
  }

  private judge(report: Report): void {
    mkdirSync(dirname(reportFile), { recursive: true })
    writeFileSync(reportFile, JSON.stringify(report, null, 2))
    const unverified = missing(report)
    if (unverified.length === 0) {
      console.log(`conformance: ${report.requirements.length} requirements, all verified where they hold`)
      return
    }
    console.error(
      `conformance: ${unverified.length} unverified\n${unverified.map((line) => `  ${line}\n`).join("")}`
    )
    process.exitCode = 1
  }
}
