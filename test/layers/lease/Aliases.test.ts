/** Leases whose patterns begin behind links, and links that somebody plants to widen them. */
import * as NFS from "node:fs"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { Lease as Terms } from "../../../src/protocol/Lease.js"
import {
  inside,
  refused,
  type Sandbox,
  sandbox,
  secret,
  type Wrap,
  withoutDescriptors
} from "./LeasedFileSystem.sandbox.js"

const both = (pattern: string): Terms => ({ "fs.read": [pattern], "fs.write": [pattern] })

/** `link` beside `work`, and what a path below it would be. */
const linked = ({ outside, work }: Sandbox) => {
  const link = `${work}/../link`
  NFS.symlinkSync(work, link)
  NFS.symlinkSync(outside, `${work}/out`)
  return `${NFS.realpathSync(`${work}/..`)}/link`
}

const suite = (name: string, wrap: Wrap) =>
  describe(name, () => {
    it.scoped("what a pattern begins with may be a link", () =>
      Effect.gen(function* () {
        const made = yield* sandbox(wrap)
        const link = linked(made)
        const fs = made.under(both(`${link}/**`))
        expect(yield* fs.readFileString(`${link}/d/f`)).toBe(inside)
        yield* fs.writeFileString(`${link}/d/new`, "new")
        expect(yield* fs.readFileString(`${link}/d/new`)).toBe("new")
        // Its real name is another name of the same.
        expect(yield* fs.realPath(`${link}/d/f`)).toBe(`${made.work}/d/f`)
        expect(yield* fs.readFileString(`${made.work}/d/f`)).toBe(inside)
        expect((yield* fs.readDirectory(link, { recursive: true })).sort()).toContain("d/sub/g")
        yield* fs.rename(`${link}/d/sub`, `${link}/moved`)
        yield* fs.remove(`${link}/moved`, { recursive: true })
        // Below it no link leads out.
        yield* refused(fs.readFile(`${link}/out/f`), `${link}/out/f`, made.outside)
        yield* refused(fs.readFile(`${made.outside}/f`))
      })
    )

    it.scoped("relative paths start in a workspace that is linked to", () =>
      Effect.gen(function* () {
        const made = yield* sandbox(wrap)
        const link = linked(made)
        for (const terms of [both(`${link}/**`), both(`${made.work}/**`)])
          expect(yield* made.under(terms, link).readFileString("d/f")).toBe(inside)
      })
    )

    it.scoped("a beginning that is not there yet is where its links lead", () =>
      Effect.gen(function* () {
        const made = yield* sandbox(wrap)
        const link = linked(made)
        const fs = made.under(both(`${link}/later/**`))
        yield* fs.makeDirectory(`${link}/later`)
        yield* fs.writeFileString(`${link}/later/f`, "late")
        expect(NFS.readFileSync(`${made.work}/later/f`, "utf8")).toBe("late")
      })
    )

    it.scoped("a link counts once: what it leads to later is not what was granted", () =>
      Effect.gen(function* () {
        const made = yield* sandbox(wrap)
        const link = linked(made)
        const fs = made.under(both(`${link}/**`))
        expect(yield* fs.readFileString(`${link}/f`)).toBe(inside)
        NFS.rmSync(link)
        NFS.symlinkSync(made.outside, link)
        yield* refused(fs.readFile(`${link}/f`), `${link}/f`, made.outside)
      })
    )

    it.scoped("a link that whoever asks could have put there widens nothing", () =>
      Effect.gen(function* () {
        const made = yield* sandbox(wrap)
        const { outside, work } = made
        NFS.symlinkSync(outside, `${work}/planted`)
        NFS.symlinkSync(`${work}/planted`, `${work}/../over`)
        const over = `${NFS.realpathSync(`${work}/..`)}/over`
        const cases: ReadonlyArray<readonly [terms: Terms, bounds: Terms, path: string]> = [
          // Below the ceiling's own beginning.
          [both(`${work}/planted/**`), { "fs.read": [`${work}/**`] }, `${work}/planted/f`],
          [both(`${work}/planted/**`), both(`${work}/**`), `${work}/planted/f`],
          // Where one pattern begins, another may write.
          [
            { "fs.read": [`${work}/planted/**`] },
            { "fs.read": [`${work}/planted/**`], "fs.write": [`${work}/**`] },
            `${work}/planted/f`
          ],
          // By way of a link that is well.
          [
            { "fs.read": [`${over}/**`] },
            { "fs.read": [`${over}/**`], "fs.write": [`${work}/**`] },
            `${over}/f`
          ],
          // A file that is named as a whole: what it leads to is below its beginning.
          [{ "fs.read": [`${work}/planted`] }, { "fs.read": [`${work}/planted`] }, `${work}/planted`]
        ]
        for (const [terms, bounds, path] of cases)
          yield* refused(made.under(terms, undefined, bounds).readFile(path), path, outside, secret)
      })
    )

    it.scoped("a ceiling's beginning counts for what is asked for below it, and what it names anyway", () =>
      Effect.gen(function* () {
        const made = yield* sandbox(wrap)
        const link = linked(made)
        const root = NFS.realpathSync(`${made.work}/..`)
        for (const bounds of [`${link}/**`, `${root}/**`]) {
          const fs = made.under({ "fs.read": [`${link}/d/**`] }, undefined, { "fs.read": [bounds] })
          expect(yield* fs.readFileString(`${link}/d/f`), bounds).toBe(inside)
          yield* refused(fs.readFile(`${link}/f`))
        }
      })
    )
  })

suite("a lease behind a link", (open) => open)
suite("a lease behind a link, without descriptors", withoutDescriptors)
