import * as NFS from "node:fs"
import type * as FileSystem from "@effect/platform/FileSystem"
import { describe, expect, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { leased } from "../../../src/layers/lease/LeasedFileSystem.js"
import { BudgetExhausted, LeaseExpired } from "../../../src/protocol/Errors.js"
import { leaseErrorOf } from "../../../src/services/lease/Lease.js"
import {
  inside,
  mkfifo,
  operations,
  refused,
  sandbox,
  secret,
  snapshot,
  type Wrap,
  withoutDescriptors
} from "./LeasedFileSystem.sandbox.js"

const text = (path: string): string => NFS.readFileSync(path, "utf8")
const mode = (path: string): number => NFS.statSync(path).mode & 0o7777

/** A refusal without what must differ in it: the path that was asked for, and random names. */
const plain = (error: { readonly description?: string | undefined }): string | undefined =>
  error.description
    ?.replace(/[0-9a-f]{16}/, "random")
    .replace(/none\/g|none|to-gone|to-file|f(?=[/ ])|g(?=[/ ])/g, "f")

const suite = (name: string, wrap: Wrap) =>
  describe(name, () => {
    describe("outside of the lease", () => {
      for (const { name, run, follows } of operations)
        it.scoped(`${name} is refused, whatever the path`, () =>
          Effect.gen(function* () {
            const { fs, work, outside, opened } = yield* sandbox(wrap)
            NFS.symlinkSync(outside, `${work}/out`)
            NFS.symlinkSync("../../outside", `${work}/d/out`)
            NFS.symlinkSync("d/out", `${work}/chain`)
            const before = snapshot(outside)
            const paths = [
              [`${outside}/f`, `${outside}/none`],
              [`${work}/../outside/f`, `${work}/../outside/none`],
              [`../outside/f`, `../outside/none`],
              [`${work}/d/../../outside/./f/`, `${work}/d/../../outside/./none/`],
              [`${work}/out/f`, `${work}/out/none`],
              [`${work}/out/sub/g`, `${work}/out/sub/none/g`],
              [`${work}/d/out/f`, `${work}/d/out/none`],
              [`${work}/chain/f`, `${work}/chain/none`],
              [`/proc/self/root${outside}/f`, `/proc/self/root${outside}/none`],
              [`/proc/self/cwd/package.json`, `/proc/self/cwd/none`],
              [`/dev/fd/0`, `/dev/fd/999`]
            ] as const
            for (const [there, missing] of paths) {
              const some = yield* refused(run(fs, there, work), undefined, outside)
              const none = yield* refused(run(fs, missing, work), undefined, outside)
              // Whether anything is there makes no difference.
              expect(plain(none)).toBe(plain(some))
            }
            if (follows) {
              NFS.symlinkSync(`${outside}/f`, `${work}/to-file`)
              NFS.symlinkSync(`${outside}/gone`, `${work}/to-gone`)
              const some = yield* refused(run(fs, `${work}/to-file`, work), undefined, outside)
              const none = yield* refused(run(fs, `${work}/to-gone`, work), undefined, outside)
              expect(plain(none)).toBe(plain(some))
            }
            expect(snapshot(outside)).toEqual(before)
            expect(opened.now).toBe(0)
          })
        )

      it.scoped("the path is shown as it was given", () =>
        Effect.gen(function* () {
          const { fs } = yield* sandbox(wrap)
          yield* refused(fs.readFile("../outside/f"), "../outside/f")
          yield* refused(fs.symlink("../outside/f", "l"), "../outside/f")
        })
      )

      it.scoped("copying from and to needs both sides", () =>
        Effect.gen(function* () {
          const { fs, work, outside } = yield* sandbox(wrap)
          const before = snapshot(outside)
          yield* refused(fs.copy(`${work}/d`, `${outside}/d`))
          yield* refused(fs.copy(outside, `${work}/mine`))
          yield* refused(fs.copyFile(`${outside}/f`, `${work}/mine`))
          expect(NFS.existsSync(`${work}/mine`)).toBe(false)
          expect(snapshot(outside)).toEqual(before)
        })
      )
    })

    describe("one capability is not the other", () => {
      for (const { name, run, does } of operations)
        it.scoped(name, () =>
          Effect.gen(function* () {
            const { under, work, put } = yield* sandbox(wrap)
            put(`${work}/read`)
            put(`${work}/write`)
            const fs = under({
              "fs.read": [`${work}/read`, `${work}/f`],
              "fs.write": [`${work}/write`, `${work}/copied`, `${work}/linked`, `${work}/moved`]
            })
            const before = [text(`${work}/read`), mode(`${work}/read`)]
            if (does !== "read") yield* refused(run(fs, `${work}/read`, work))
            if (does !== "write") yield* refused(run(fs, `${work}/write`, work))
            expect([text(`${work}/read`), mode(`${work}/read`)]).toEqual(before)
            expect(text(`${work}/write`)).toBe(inside)
          })
        )

      it.scoped("what may be written may not be read by writing it elsewhere", () =>
        Effect.gen(function* () {
          const { under, work, put } = yield* sandbox(wrap)
          NFS.mkdirSync(`${work}/pub`)
          put(`${work}/hidden`)
          const fs = under({ "fs.read": [`${work}/pub/**`], "fs.write": [`${work}/**`] })
          yield* refused(fs.rename(`${work}/hidden`, `${work}/pub/x`))
          yield* refused(fs.rename(`${work}/d`, `${work}/pub/d`))
          yield* refused(fs.link(`${work}/hidden`, `${work}/pub/x`))
          yield* refused(fs.copyFile(`${work}/hidden`, `${work}/pub/x`))
          expect(NFS.readdirSync(`${work}/pub`)).toEqual([])
          // Where it cannot be read either, it may go.
          yield* fs.rename(`${work}/hidden`, `${work}/hidden2`)
          expect(text(`${work}/hidden2`)).toBe(inside)
        })
      )

      it.scoped("a directory does not take what it holds to where the lease reaches further", () =>
        Effect.gen(function* () {
          const { under, work } = yield* sandbox(wrap)
          NFS.mkdirSync(`${work}/deep`)
          const fs = under({ "fs.write": [`${work}/*`, `${work}/deep/**`] })
          yield* refused(fs.writeFileString(`${work}/d/f`, "x"))
          yield* refused(fs.rename(`${work}/d`, `${work}/deep/d`))
          yield* refused(fs.rename(`${work}/d`, `${work}/e`))
          yield* fs.rename(`${work}/f`, `${work}/deep/f`)
          expect(NFS.existsSync(`${work}/d/f`)).toBe(true)
          const whole = under({ "fs.write": [`${work}/**`] })
          yield* whole.rename(`${work}/d`, `${work}/deep/d`)
          expect(text(`${work}/deep/d/f`)).toBe(inside)
        })
      )
    })

    describe("inside of the lease", () => {
      it.scoped("files are read", () =>
        Effect.gen(function* () {
          const { fs, work, put } = yield* sandbox(wrap)
          put(`${work}/big`, "0123456789".repeat(100_000))
          expect(yield* fs.readFileString("f")).toBe(inside)
          expect(yield* fs.readFileString(`${work}/d//sub/../f/`)).toBe(inside)
          expect((yield* fs.readFile(`${work}/big`)).length).toBe(1_000_000)
          put(`${work}/empty`, "")
          expect((yield* fs.readFile("empty")).length).toBe(0)
          const streamed = yield* Stream.runCollect(
            fs.stream(`${work}/big`, { chunkSize: 1000, offset: 5, bytesToRead: 2500 })
          )
          expect(Chunk.toReadonlyArray(streamed).map((part) => part.length)).toEqual([1000, 1000, 500])
          expect(yield* fs.exists("f")).toBe(true)
          expect(yield* fs.exists("none")).toBe(false)
          expect(yield* fs.exists("d/none/none")).toBe(false)
          yield* fs.access("f", { readable: true, writable: true })
          expect((yield* fs.stat("f")).type).toBe("File")
          expect((yield* fs.stat("d")).type).toBe("Directory")
          expect(yield* fs.realPath("d/../f")).toBe(`${work}/f`)
        })
      )

      it.scoped("what is missing is not found", () =>
        Effect.gen(function* () {
          const { fs, work } = yield* sandbox(wrap)
          const missing = [
            fs.readFile("none"),
            fs.stat("none/none"),
            fs.access("none"),
            fs.realPath("none"),
            fs.readLink("none"),
            fs.remove("none"),
            fs.remove("none", { recursive: true }),
            fs.rename("none", "other"),
            fs.link("none", "other"),
            fs.copy("none", "other"),
            fs.copyFile("none", "other"),
            fs.chmod("none", 0o600),
            fs.truncate("none"),
            fs.utimes("none", 1, 1),
            fs.makeDirectory("none/none"),
            fs.writeFileString("none/none", ""),
            fs.writeFileString("none", "", { flag: "r+" }),
            fs.readDirectory("none"),
            Stream.runDrain(fs.watch("none")),
            fs.readFile(""),
            fs.makeDirectory("")
          ]
          for (const effect of missing) {
            const error = yield* Effect.flip(effect as Effect.Effect<unknown, { readonly message: string }>)
            expect(error).toMatchObject({ _tag: "SystemError", reason: "NotFound" })
            expect(error.message).not.toContain("/proc")
            expect(leaseErrorOf(error)).toBeUndefined()
          }
          yield* fs.remove("none", { force: true })
          yield* fs.remove("none/none", { recursive: true, force: true })
          expect(NFS.readdirSync(work).sort()).toEqual(["d", "f"])
        })
      )

      it.scoped("files are written, by every flag", () =>
        Effect.gen(function* () {
          const { fs, work } = yield* sandbox(wrap)
          yield* fs.writeFileString("f", "longer than before")
          yield* fs.writeFileString("f", "short")
          expect(text(`${work}/f`)).toBe("short")
          yield* fs.writeFileString("f", "+", { flag: "a" })
          yield* fs.writeFileString("f", "+", { flag: "a+" })
          expect(text(`${work}/f`)).toBe("short++")
          yield* fs.writeFileString("f", "SH", { flag: "r+" })
          expect(text(`${work}/f`)).toBe("SHort++")
          yield* fs.writeFileString("appended", "1", { flag: "a", mode: 0o600 })
          yield* fs.writeFileString("appended", "2", { flag: "a" })
          expect(text(`${work}/appended`)).toBe("12")
          expect(mode(`${work}/appended`)).toBe(0o600)
          for (const flag of ["wx", "wx+", "ax", "ax+"] as const) {
            yield* fs.writeFileString(`new ${flag}`, flag, { flag, mode: 0o640 })
            expect(text(`${work}/new ${flag}`)).toBe(flag)
            expect(mode(`${work}/new ${flag}`)).toBe(0o640)
            const again = yield* Effect.flip(fs.writeFileString(`new ${flag}`, "", { flag }))
            expect(again).toMatchObject({ reason: "AlreadyExists" })
          }
          yield* Stream.run(Stream.make(new Uint8Array([65]), new Uint8Array([66])), fs.sink("sunk"))
          expect(text(`${work}/sunk`)).toBe("AB")
          yield* fs.truncate("sunk", 1)
          expect(text(`${work}/sunk`)).toBe("A")
          yield* fs.truncate("sunk")
          expect(text(`${work}/sunk`)).toBe("")
          yield* fs.chmod("sunk", 0o640)
          yield* fs.utimes("sunk", 10, 20)
          expect(mode(`${work}/sunk`)).toBe(0o640)
          expect(NFS.statSync(`${work}/sunk`).mtimeMs).toBe(20_000)
          const written = yield* Effect.flip(
            fs.readFile("f").pipe(Effect.zipRight(fs.writeFileString("d", "")))
          )
          expect(written).toMatchObject({ reason: "BadResource" })
        })
      )

      it.scoped("an open file reads, writes and seeks by its flags", () =>
        Effect.gen(function* () {
          const { fs, work, opened } = yield* sandbox(wrap)
          const scope = yield* Scope.make()
          const file = yield* Scope.extend(fs.open("f", { flag: "w+" }), scope)
          yield* file.writeAll(new TextEncoder().encode("hello"))
          yield* file.sync
          expect(yield* file.seek(1, "start")).toBe(1n)
          const read = Option.getOrThrow(yield* file.readAlloc(3))
          expect(new TextDecoder().decode(read)).toBe("ell")
          expect((yield* file.stat).size).toBe(5n)
          yield* file.truncate(2)
          expect(text(`${work}/f`)).toBe("he")
          // Nothing stays open beside the file itself.
          expect(opened.now).toBe(1)
          yield* Scope.close(scope, Exit.void)
          expect(opened.now).toBe(0)
          const writing = yield* fs.open("f", { flag: "w" })
          expect(yield* Effect.flip(writing.readAlloc(1))).toMatchObject({ reason: "BadResource" })
          const reading = yield* fs.open("f")
          expect(Exit.isFailure(yield* Effect.exit(reading.writeAll(new Uint8Array(1))))).toBe(true)
        })
      )

      it.scoped("directories are made, listed and removed", () =>
        Effect.gen(function* () {
          const { fs, work, outside, opened } = yield* sandbox(wrap)
          yield* fs.makeDirectory("a/b/c", { recursive: true, mode: 0o700 })
          yield* fs.makeDirectory("a/b/c", { recursive: true })
          expect(mode(`${work}/a/b`)).toBe(0o700)
          expect(yield* Effect.flip(fs.makeDirectory("a"))).toMatchObject({ reason: "AlreadyExists" })
          expect(yield* Effect.flip(fs.makeDirectory("f", { recursive: true }))).toMatchObject({
            reason: "AlreadyExists"
          })
          NFS.symlinkSync(outside, `${work}/a/out`)
          NFS.symlinkSync(`${outside}/none`, `${work}/a/dangling`)
          NFS.symlinkSync("../d", `${work}/a/in`)
          expect((yield* fs.readDirectory("a")).sort()).toEqual(["b", "dangling", "in", "out"])
          expect((yield* fs.readDirectory("a/in")).sort()).toEqual(["f", "sub"])
          expect((yield* fs.readDirectory(".", { recursive: true })).sort()).toEqual(
            ["a", "a/b", "a/b/c", "a/dangling", "a/in", "a/out", "d", "d/f", "d/sub", "d/sub/g", "f"].sort()
          )
          expect((yield* Effect.flip(fs.remove("d"))).message).toContain("EISDIR")
          const before = snapshot(outside)
          yield* fs.remove("a/dangling")
          yield* fs.remove("a", { recursive: true })
          yield* fs.remove("f")
          expect(NFS.readdirSync(work)).toEqual(["d"])
          expect(text(`${work}/d/f`)).toBe(inside)
          expect(snapshot(outside)).toEqual(before)
          expect(opened.now).toBe(0)
        })
      )

      it.scoped("recursion stays with what the lease covers", () =>
        Effect.gen(function* () {
          const { under, work } = yield* sandbox(wrap)
          const fs = under({
            "fs.read": [work, `${work}/d`, `${work}/d/*`],
            "fs.write": [work, `${work}/d`, `${work}/d/*`]
          })
          NFS.mkdirSync(`${work}/e`)
          NFS.writeFileSync(`${work}/e/x`, "")
          expect((yield* fs.readDirectory(work, { recursive: true })).sort()).toEqual(
            ["d", "d/f", "d/sub", "d/sub/g", "e", "f"].sort()
          )
          yield* refused(fs.remove(`${work}/d`, { recursive: true }))
          expect(text(`${work}/d/sub/g`)).toBe(inside)
        })
      )

      it.scoped("links are read, made and followed where they stay in the lease", () =>
        Effect.gen(function* () {
          const { fs, work, outside } = yield* sandbox(wrap)
          yield* fs.symlink("../f", "d/l")
          yield* fs.symlink(`${work}/d`, "e")
          expect(yield* fs.readLink("d/l")).toBe("../f")
          expect(yield* fs.readFileString("e/l")).toBe(inside)
          expect(yield* fs.realPath("e/l")).toBe(`${work}/f`)
          yield* fs.writeFileString("e/l", "through")
          expect(text(`${work}/f`)).toBe("through")
          yield* fs.symlink("later", "dangling")
          yield* fs.writeFileString("dangling", "made")
          expect(text(`${work}/later`)).toBe("made")
          yield* fs.remove("e")
          expect(NFS.existsSync(`${work}/d/f`)).toBe(true)

          yield* refused(fs.symlink(outside, "x"), outside)
          yield* refused(fs.symlink("../outside", "x"))
          yield* refused(fs.symlink("d/../../outside", "x"))
          yield* refused(fs.symlink("/", "x"))
          yield* refused(fs.symlink("d/../f", "x"))
          // Under a name that is deeper this is inside; where it would come to lie it is not.
          yield* fs.symlink("../../f", "d/sub/l")
          yield* refused(fs.rename("d/sub/l", "l"))
          NFS.symlinkSync(outside, `${work}/out`)
          expect(yield* fs.readLink("out")).toBe(outside)
        })
      )

      it.scoped("a link may lead to what may only be read, or only be written", () =>
        Effect.gen(function* () {
          const { under, work } = yield* sandbox(wrap)
          const fs = under({ "fs.read": [`${work}/r`], "fs.write": [`${work}/w`, `${work}/l*`] })
          yield* fs.symlink("r", `${work}/l1`)
          yield* fs.symlink("w", `${work}/l2`)
          yield* refused(fs.symlink("f", `${work}/l3`), "f")
        })
      )

      it.scoped("a loop of links ends", () =>
        Effect.gen(function* () {
          const { fs, work } = yield* sandbox(wrap)
          NFS.symlinkSync("b", `${work}/a`)
          NFS.symlinkSync("a", `${work}/b`)
          NFS.symlinkSync("self/x", `${work}/self`)
          for (const path of ["a", "a/x", "self"])
            expect((yield* Effect.flip(fs.readFile(path))).message).toContain("ELOOP")
          yield* fs.remove("a")
        })
      )

      it.scoped("hard links and names are moved", () =>
        Effect.gen(function* () {
          const { fs, work } = yield* sandbox(wrap)
          yield* fs.link("f", "d/h")
          expect(NFS.statSync(`${work}/d/h`).ino).toBe(NFS.statSync(`${work}/f`).ino)
          yield* fs.rename("f", "d/f")
          expect(NFS.existsSync(`${work}/f`)).toBe(false)
          yield* fs.rename("d", "e")
          expect(text(`${work}/e/sub/g`)).toBe(inside)
        })
      )

      it.scoped("trees are copied, with links that stay in the lease and none that leave it", () =>
        Effect.gen(function* () {
          const { fs, work, outside, put, opened } = yield* sandbox(wrap)
          NFS.symlinkSync("../f", `${work}/d/l`)
          NFS.chmodSync(`${work}/d/f`, 0o750)
          NFS.chmodSync(`${work}/d/sub`, 0o500)
          NFS.utimesSync(`${work}/d/f`, 10, 20)
          yield* fs.copy("d", "new/parent/e", { preserveTimestamps: true })
          const copied = `${work}/new/parent/e`
          expect(NFS.readdirSync(copied, { recursive: true }).sort()).toEqual(["f", "l", "sub", "sub/g"])
          expect(NFS.readlinkSync(`${copied}/l`)).toBe(`${work}/f`)
          expect(mode(`${copied}/f`)).toBe(0o750)
          expect(mode(`${copied}/sub`)).toBe(0o500)
          expect(NFS.statSync(`${copied}/f`).mtimeMs).toBe(20_000)

          put(`${work}/d/f`, "second")
          yield* fs.copy("d", "new/parent/e")
          expect(text(`${copied}/f`)).toBe(inside)
          yield* fs.copy("d", "new/parent/e", { overwrite: true })
          expect(text(`${copied}/f`)).toBe("second")
          yield* fs.copyFile("d/f", "d/f")
          expect(text(`${work}/d/f`)).toBe("second")
          expect((yield* Effect.flip(fs.copy("d", "d/sub/again"))).message).toContain("EINVAL")

          NFS.symlinkSync(`${outside}/f`, `${work}/d/out`)
          yield* refused(fs.copy("d", "third"), `${work}/d/out`, outside)
          expect(NFS.existsSync(`${work}/third/out`)).toBe(false)
          expect(opened.now).toBe(0)
        })
      )

      it.scoped("what is temporary lies in the workspace", () =>
        Effect.gen(function* () {
          const { fs, work, under, opened } = yield* sandbox(wrap)
          const directory = yield* fs.makeTempDirectory({ prefix: "tmp-" })
          expect(directory.startsWith(`${work}/tmp-`)).toBe(true)
          expect(mode(directory)).toBe(0o700)
          const file = yield* fs.makeTempFile({ directory: "d", suffix: ".txt" })
          expect(file.startsWith(`${work}/d/`) && file.endsWith(".txt")).toBe(true)
          expect(text(file)).toBe("")
          const before = NFS.readdirSync(work, { recursive: true }).length
          const scoped = yield* Effect.scoped(
            Effect.gen(function* () {
              const one = yield* fs.makeTempDirectoryScoped()
              const two = yield* fs.makeTempFileScoped({ directory: "d" })
              yield* fs.writeFileString(`${one}/x`, "x")
              expect(NFS.existsSync(`${one}/x`) && NFS.existsSync(two)).toBe(true)
              return one
            })
          )
          expect(NFS.existsSync(scoped)).toBe(false)
          expect(NFS.readdirSync(work, { recursive: true }).length).toBe(before)
          expect(opened.now).toBe(0)
          for (const options of [{ prefix: "../x" }, { prefix: "a/b" }, { prefix: "\0" }])
            expect(yield* Effect.flip(fs.makeTempDirectory(options))).toMatchObject({ _tag: "BadArgument" })
          expect(yield* Effect.flip(fs.makeTempFile({ suffix: "/../../x" }))).toMatchObject({
            _tag: "BadArgument"
          })
          const elsewhere = under({ "fs.write": [`${work}/d/**`] }, work)
          yield* refused(elsewhere.makeTempDirectory())
          yield* refused(elsewhere.makeTempFileScoped())
          // Only the directory is covered: nothing stays of a file that is not.
          const shallow = under({ "fs.write": [`${work}/*`] }, work)
          const names = NFS.readdirSync(work)
          yield* refused(shallow.makeTempFile())
          expect(NFS.readdirSync(work)).toEqual(names)
        })
      )

      it.scoped("relative paths start where the process does when there is no workspace", () =>
        Effect.gen(function* () {
          const { under } = yield* sandbox(wrap)
          const fs = under({ "fs.read": [`${process.cwd()}/package.json`] })
          expect(yield* fs.readFileString("package.json")).toContain("effect")
          yield* refused(fs.readFile("tsconfig.json"), "tsconfig.json")
        })
      )
    })

    describe("the lease is over", () => {
      const expired = new LeaseExpired({ message: "the lease expired" })

      for (const { name, run } of operations)
        it.scoped(`${name} fails`, () =>
          Effect.gen(function* () {
            const { fs, work, state } = yield* sandbox(wrap)
            state.refuse = expired
            const before = snapshot(work)
            const error = yield* Effect.flip(Effect.scoped(run(fs, `${work}/f`, work)))
            expect(leaseErrorOf(error)).toBe(expired)
            expect(snapshot(work)).toEqual(before)
          })
        )

      it.scoped("also when that comes while an operation waits for the log", () =>
        Effect.gen(function* () {
          const { fs, state, work } = yield* sandbox(wrap)
          state.flushed = Effect.sync(() => {
            state.refuse = expired
          })
          const before = snapshot(work)
          for (const { does, name, run } of operations) {
            // Those that only read wait for nothing.
            if (does === "read") continue
            state.refuse = undefined
            const error = yield* Effect.flip(Effect.scoped(run(fs, `${work}/f`, work)))
            expect(leaseErrorOf(error), name).toBe(expired)
            expect(snapshot(work), name).toEqual(before)
          }
        })
      )

      it.scoped("an open file neither reads nor writes any more", () =>
        Effect.gen(function* () {
          const { fs, work, state } = yield* sandbox(wrap)
          const file = yield* fs.open("f", { flag: "r+" })
          state.refuse = new BudgetExhausted({ message: "the budget is used up" })
          const uses: ReadonlyArray<Effect.Effect<unknown, unknown>> = [
            file.read(new Uint8Array(1)),
            file.readAlloc(1),
            file.write(new Uint8Array(1)),
            file.writeAll(new Uint8Array(1)),
            file.truncate(0),
            file.sync,
            file.stat
          ]
          for (const use of uses) expect(leaseErrorOf(yield* Effect.flip(use))).toBe(state.refuse)
          expect(text(`${work}/f`)).toBe(inside)
        })
      )

      it.scoped("a stream and a sink end at the next chunk", () =>
        Effect.gen(function* () {
          const { fs, work, state, put } = yield* sandbox(wrap)
          put(`${work}/big`, "x".repeat(100_000))
          let chunks = 0
          const streaming = Stream.runForEach(fs.stream("big", { chunkSize: 1000 }), () =>
            Effect.sync(() => {
              chunks += 1
              if (chunks === 3) state.refuse = expired
            })
          )
          expect(leaseErrorOf(yield* Effect.flip(streaming))).toBe(expired)
          expect(chunks).toBe(3)
          state.refuse = undefined
          let made = 0
          const writing = Stream.run(
            Stream.repeatEffect(
              Effect.sync(() => {
                made += 1
                if (made === 3) state.refuse = expired
                return new Uint8Array([65])
              })
            ),
            fs.sink("sunk")
          )
          expect(leaseErrorOf(yield* Effect.flip(writing))).toBe(expired)
          expect(text(`${work}/sunk`)).toBe("AA")
        })
      )

      it.scoped("what is temporary is cleaned up all the same", () =>
        Effect.gen(function* () {
          const { fs, work, state } = yield* sandbox(wrap)
          const before = snapshot(work).length
          yield* Effect.scoped(
            Effect.gen(function* () {
              const directory = yield* fs.makeTempDirectoryScoped()
              yield* fs.writeFileString(`${directory}/x`, "x")
              state.refuse = expired
            })
          )
          expect(snapshot(work).length).toBe(before)
        })
      )
    })

    it.scoped.runIf(process.platform === "linux")(
      "files of /proc are read without waiting for them (on Linux)",
      () =>
        Effect.gen(function* () {
          const { under } = yield* sandbox(wrap)
          const fs = under({ "fs.read": ["/proc/**"] })
          const status = `/proc/${process.pid}/status`
          expect(yield* fs.readFileString(status)).toMatch(/^Name:.*\nUmask/)
          const file = yield* fs.open(status)
          expect(Option.isSome(yield* file.readAlloc(4))).toBe(true)
          yield* file.seek(0, "start")
          const again = Option.getOrThrow(yield* file.readAlloc(4))
          expect(new TextDecoder().decode(again)).toBe("Name")
          // Some say they are regular files, and wait like pipes: there must be a descriptor that does not.
          const nonblocking = NFS.readdirSync("/proc/self/fd").filter((fd) => {
            const link = Effect.try(() => NFS.readlinkSync(`/proc/self/fd/${fd}`))
            if (Effect.runSync(Effect.orElseSucceed(link, () => "")) !== status) return false
            const flags = /flags:\s*(\d+)/.exec(NFS.readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1]
            return (Number.parseInt(flags ?? "", 8) & NFS.constants.O_NONBLOCK) !== 0
          })
          expect(nonblocking).toHaveLength(name.includes("without descriptors") ? 0 : 1)
        })
    )

    it.scoped("only files and directories are opened", () =>
      Effect.gen(function* () {
        const { fs, work } = yield* sandbox(wrap)
        mkfifo(`${work}/fifo`)
        expect((yield* fs.stat("fifo")).type).toBe("FIFO")
        expect(yield* fs.exists("fifo")).toBe(true)
        yield* fs.access("fifo", { readable: true })
        const uses: ReadonlyArray<Effect.Effect<unknown, unknown>> = [
          fs.readFile("fifo"),
          fs.readFile("fifo/x"),
          fs.writeFileString("fifo", "x"),
          fs.writeFileString("fifo", "x", { flag: "a" }),
          fs.copyFile("fifo", "copied"),
          fs.copy("fifo", "copied"),
          fs.copyFile("f", "fifo"),
          fs.truncate("fifo"),
          fs.chmod("fifo", 0o600),
          fs.readDirectory("fifo"),
          Stream.runDrain(fs.watch("fifo"))
        ]
        for (const use of uses)
          expect(yield* Effect.flip(use)).toMatchObject({ _tag: "SystemError", reason: "BadResource" })
        yield* fs.rename("fifo", "d/fifo")
        yield* fs.remove("d", { recursive: true })
        expect(NFS.readdirSync(work)).toEqual(["f"])
      })
    )

    it.scoped("paths that are none are refused", () =>
      Effect.gen(function* () {
        const { fs, work } = yield* sandbox(wrap)
        for (const path of [`${work}/f\0`, `\0`, `${work}/f\0/../../outside/f`])
          yield* refused(fs.readFile(path))
        yield* refused(fs.readFile(`${work}/${"x/".repeat(4000)}`))
        expect(yield* Effect.flip(fs.readFile("x".repeat(300)))).toMatchObject({ _tag: "SystemError" })
        expect((yield* Effect.flip(fs.symlink("f\0", "l")))._tag).toMatch(/SystemError|BadArgument/)
        expect(NFS.existsSync(`${work}/l`)).toBe(false)
      })
    )

    it.scoped("a lease may name a link and where it leads", () =>
      Effect.gen(function* () {
        const { under, work, outside } = yield* sandbox(wrap)
        NFS.symlinkSync(work, `${outside}/alias`)
        const alias = `${outside}/alias`
        const both = under({ "fs.read": [`${alias}/**`, `${work}/**`] })
        expect(yield* both.readFileString(`${alias}/d/f`)).toBe(inside)
        expect(yield* both.realPath(`${alias}/f`)).toBe(`${work}/f`)
      })
    )

    it.scoped("a way through outside tells nothing, although it ends inside", () =>
      Effect.gen(function* () {
        const { fs, work, outside } = yield* sandbox(wrap)
        NFS.symlinkSync(work, `${outside}/back`)
        NFS.symlinkSync(`${outside}/back/f`, `${work}/through`)
        NFS.symlinkSync(`${outside}/sub/../../work/f`, `${work}/around`)
        NFS.symlinkSync(`${outside}/none/../../work/f`, `${work}/nowhere`)
        NFS.symlinkSync(outside, `${work}/out`)
        for (const path of ["through", "around", "nowhere", "out/back/f", "out/none/f"])
          yield* refused(fs.readFile(path), path, outside)
      })
    )

    it.scoped("descriptors of the process lead nowhere, even where the lease names them", () =>
      Effect.gen(function* () {
        const { under, outside, work } = yield* sandbox(wrap)
        // Not all of /dev: files in memory, as those of tests may be, are below it.
        const fs = under({ "fs.read": ["/proc/**", "/dev/fd/**"], "fs.write": ["/proc/**", "/dev/fd/**"] })
        const fd = yield* Effect.acquireRelease(
          Effect.sync(() => NFS.openSync(outside, "r")),
          (opened) => Effect.sync(() => NFS.closeSync(opened))
        )
        for (const way of [`/proc/self/fd/${fd}`, `/proc/${process.pid}/fd/${fd}`, `/dev/fd/${fd}`])
          for (const { run } of operations) yield* refused(run(fs, `${way}/f`, work), undefined, outside)
        yield* refused(fs.readFile(`/proc/self/root${outside}/f`), undefined)
        yield* refused(fs.readFile(`/proc/self/cwd/package.json`), undefined, process.cwd())
      })
    )

    it.scoped("a lease of everything covers the root", () =>
      Effect.gen(function* () {
        const { under, work } = yield* sandbox(wrap)
        const fs = under({ "fs.read": ["/**"] })
        expect(yield* fs.readDirectory("/")).toContain("tmp")
        expect((yield* fs.stat("/")).type).toBe("Directory")
        expect(yield* fs.readFileString(`${work}/f`)).toBe(inside)
      })
    )

    it.scoped("everything is closed after an interruption", () =>
      Effect.gen(function* () {
        const reached = yield* Deferred.make<void>()
        const stuck: Wrap = (open) => ({
          ...wrap(open),
          open: (path, options) =>
            Effect.map(wrap(open).open(path, options), (file) => ({
              ...file,
              readAlloc: () => Effect.zipRight(Deferred.succeed(reached, undefined), Effect.never),
              stat: file.stat,
              fd: file.fd
            }))
        })
        const { fs, opened } = yield* sandbox(stuck)
        const fiber = yield* Effect.fork(fs.readFile("d/f"))
        yield* Deferred.await(reached)
        expect(opened.now).toBeGreaterThan(0)
        yield* Fiber.interrupt(fiber)
        expect(opened.now).toBe(0)
      })
    )

    it.scoped("nothing is touched before the first use", () =>
      Effect.gen(function* () {
        const { opened } = yield* sandbox(wrap)
        const untouched = new Proxy({} as FileSystem.FileSystem, {
          get: () => {
            throw new Error("used")
          }
        })
        leased.lease(untouched, { lease: { workspace: undefined }, job: {} } as never)
        expect(opened.total).toBe(0)
      })
    )

    describe("watch", () => {
      /** Repeats an act until the events say enough: a watcher starts when it starts. */
      const until = <A>(
        events: Stream.Stream<A, unknown>,
        act: () => void,
        enough: (seen: ReadonlyArray<A>) => boolean
      ) =>
        Effect.gen(function* () {
          const seen: Array<A> = []
          const watching = yield* Effect.fork(
            Stream.runForEachWhile(events, (event) =>
              Effect.sync(() => {
                seen.push(event)
                return !enough(seen)
              })
            )
          )
          const acting = yield* Effect.fork(
            Effect.forever(
              Effect.zipRight(
                Effect.sync(act),
                Effect.promise(() => new Promise(setImmediate))
              )
            )
          )
          yield* Fiber.join(watching)
          yield* Fiber.interrupt(acting)
          return seen
        })

      it.live("tells of what happens in a directory, and whether it came or went", () =>
        Effect.scoped(
          Effect.gen(function* () {
            const { fs, work, put, opened } = yield* sandbox(wrap)
            // A name that also stands where the process runs must not be looked up there.
            const name = "package.json"
            let there = false
            const seen = yield* until(
              fs.watch("d"),
              () => {
                if (there) NFS.rmSync(`${work}/d/${name}`)
                else put(`${work}/d/${name}`)
                there = !there
              },
              (events) => events.some(({ _tag }) => _tag === "Remove")
            )
            expect(new Set(seen.map(({ path }) => path))).toEqual(new Set([name]))
            expect(opened.now).toBe(0)
          })
        )
      )

      it.live("tells of one file under its own name, and goes on below new directories", () =>
        Effect.scoped(
          Effect.gen(function* () {
            const { fs, work, put } = yield* sandbox(wrap)
            const one = yield* until(
              fs.watch("d/f"),
              () => put(`${work}/d/f`, "x"),
              (events) => events.length > 0
            )
            expect(one[0]).toMatchObject({ _tag: "Update", path: "f" })
            yield* until(
              fs.watch(work, { recursive: true }),
              () => {
                NFS.mkdirSync(`${work}/new/below`, { recursive: true })
                put(`${work}/new/x`, "x")
                put(`${work}/d/sub/g`, "x")
              },
              (events) => {
                const paths = events.map(({ path }) => path)
                return paths.includes("d/sub/g") && paths.includes("new/x")
              }
            )
          })
        )
      )

      it.live("says nothing of what the lease does not cover, and nothing after its end", () =>
        Effect.scoped(
          Effect.gen(function* () {
            const { under, work, outside, put, state } = yield* sandbox(wrap)
            NFS.symlinkSync(outside, `${work}/d/out`)
            const fs = under({ "fs.read": [`${work}/d`, `${work}/d/open`] })
            const act = () => {
              put(`${work}/d/hidden`, "x")
              put(`${outside}/f`, "x")
              put(`${work}/d/sub/g`, "x")
              put(`${work}/d/open`, "x")
            }
            const seen = yield* until(
              fs.watch(`${work}/d`, { recursive: true }),
              act,
              (events) => events.length > 3
            )
            expect(new Set(seen.map(({ path }) => path))).toEqual(new Set(["open"]))
            const failing = until(
              Stream.tap(fs.watch(`${work}/d`), () =>
                Effect.sync(() => {
                  state.refuse = new LeaseExpired({ message: "over" })
                })
              ),
              act,
              () => false
            )
            expect(leaseErrorOf(yield* Effect.flip(failing))).toBe(state.refuse)
          })
        )
      )
    })
  })

suite("a leased file system", (open) => open)
suite("a leased file system without descriptors", withoutDescriptors)

it.scoped("a hard link is the file, whatever other names it has", () =>
  Effect.gen(function* () {
    const { fs, work, outside } = yield* sandbox()
    NFS.linkSync(`${outside}/f`, `${work}/same`)
    expect(yield* fs.readFileString("same")).toBe(secret)
    yield* refused(fs.link(`${outside}/f`, `${work}/mine`))
  })
)
