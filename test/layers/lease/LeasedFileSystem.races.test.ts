/** Somebody exchanges things between any two steps of an operation: it never matters which two. */
import * as NFS from "node:fs"
import * as OS from "node:os"
import * as Path from "node:path"
import { SystemError } from "@effect/platform/Error"
import type * as FileSystem from "@effect/platform/FileSystem"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Inspectable from "effect/Inspectable"
import * as Option from "effect/Option"
import { afterAll } from "vitest"
import {
  inside,
  mkfifo,
  operations,
  sandbox,
  secret,
  snapshot,
  type Wrap,
  withoutDescriptors,
  withoutProc
} from "./LeasedFileSystem.sandbox.js"

interface Places {
  readonly work: string
  readonly outside: string
}

/** Called before each call of the open file system, with its number. */
interface Attacker {
  readonly name: string
  /** What it exchanges: `d/f`, a directory on the way, or `d/sub/new` where there was nothing. */
  readonly of: "file" | "directory" | "nothing"
  /** It goes on for ever, so that only its phase makes a difference. */
  readonly endless?: true
  readonly at: (call: number, moment: number, places: Places) => void
}

const link = (target: string, path: string) => {
  NFS.rmSync(path, { recursive: true, force: true })
  NFS.symlinkSync(target, path)
}

const file = (path: string) => {
  NFS.rmSync(path, { recursive: true, force: true })
  NFS.writeFileSync(path, inside)
}

/** FIFOs that nobody opens, by their file systems: making one is a process. */
const fifos = new Map<number, string>()
afterAll(() => {
  for (const made of fifos.values()) NFS.rmSync(Path.dirname(made), { recursive: true })
})
const fifoOn = (folder: string): string => {
  const { dev } = NFS.statSync(folder)
  const known = fifos.get(dev)
  if (known !== undefined) return known
  const made = `${NFS.mkdtempSync(`${Path.dirname(folder)}/fifo-`)}/fifo`
  mkfifo(made)
  fifos.set(dev, made)
  return made
}

/** A further name of a FIFO: whoever opens it would wait for ever. `root` is what the places of a test are in. */
const fifo = (root: string, path: string) => {
  NFS.rmSync(path, { recursive: true, force: true })
  NFS.linkSync(fifoOn(root), path)
}

/** What was there stays, under another name, as somebody would who does not want to be noticed. */
const exchange = (path: string, target: string) => {
  const away = `${path}.away`
  if (NFS.lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink()) {
    NFS.rmSync(path)
    if (NFS.existsSync(away)) NFS.renameSync(away, path)
  } else if (!NFS.existsSync(away)) {
    if (NFS.existsSync(path)) NFS.renameSync(path, away)
    NFS.symlinkSync(target, path)
  }
}

const attackers: ReadonlyArray<Attacker> = [
  {
    name: "a file becomes a link",
    of: "file",
    at: (call, moment, { work, outside }) => {
      if (call === moment) link(`${outside}/f`, `${work}/d/f`)
    }
  },
  {
    name: "a file becomes a link to nothing",
    of: "file",
    at: (call, moment, { work, outside }) => {
      if (call === moment) link(`${outside}/new`, `${work}/d/f`)
    }
  },
  {
    name: "a file becomes a link to a loop",
    of: "file",
    at: (call, moment, { work, outside }) => {
      if (call === moment) link(`${outside}/loop`, `${work}/d/f`)
    }
  },
  {
    name: "a link comes",
    of: "nothing",
    at: (call, moment, { work, outside }) => {
      if (call === moment) link(`${outside}/f`, `${work}/d/sub/new`)
    }
  },
  {
    name: "a link to nothing comes",
    of: "nothing",
    at: (call, moment, { work, outside }) => {
      if (call === moment) link(`${outside}/new`, `${work}/d/sub/new`)
    }
  },
  {
    name: "a link becomes a file",
    of: "file",
    at: (call, moment, { work, outside }) => {
      if (call === 0) link(`${outside}/f`, `${work}/d/f`)
      if (call === moment) file(`${work}/d/f`)
    }
  },
  {
    name: "a file becomes a link for one step",
    of: "file",
    at: (call, moment, { work, outside }) => {
      if (call === moment) link(`${outside}/f`, `${work}/d/f`)
      if (call === moment + 1) file(`${work}/d/f`)
    }
  },
  {
    name: "a file is a link at every other step",
    of: "file",
    endless: true,
    at: (call, moment, { work, outside }) => {
      if (call >= moment && (call - moment) % 2 === 0) link(`${outside}/f`, `${work}/d/f`)
      if (call >= moment && (call - moment) % 2 === 1) file(`${work}/d/f`)
    }
  },
  {
    name: "a file becomes a FIFO",
    of: "file",
    at: (call, moment, { work, outside }) => {
      if (call === moment) fifo(Path.dirname(outside), `${work}/d/f`)
    }
  },
  {
    name: "a file becomes a FIFO for one step",
    of: "file",
    at: (call, moment, { work, outside }) => {
      if (call === moment) fifo(Path.dirname(outside), `${work}/d/f`)
      if (call === moment + 1) file(`${work}/d/f`)
    }
  },
  {
    name: "a directory becomes a link",
    of: "directory",
    at: (call, moment, { work, outside }) => {
      if (call === moment) exchange(`${work}/d`, outside)
    }
  },
  {
    name: "a directory is a link at every other step",
    of: "directory",
    endless: true,
    at: (call, moment, { work, outside }) => {
      if (call >= moment) exchange(`${work}/d`, outside)
    }
  },
  {
    name: "a directory below becomes a link",
    of: "directory",
    at: (call, moment, { work, outside }) => {
      if (call === moment) exchange(`${work}/d/sub`, `${outside}/sub`)
    }
  },
  {
    name: "a directory becomes a link for one step",
    of: "directory",
    at: (call, moment, { work, outside }) => {
      if (call === moment) exchange(`${work}/d/sub`, `${outside}/sub`)
      if (call === moment || call === moment + 1) exchange(`${work}/d`, outside)
    }
  }
]

const fits = { "d/f": "file", d: "directory", "d/sub/new": "nothing" }

/** Runs something before every call of the open file system. */
const before =
  (step: () => void): Wrap =>
  (open) => {
    const stepped = Object.fromEntries(
      Object.entries(open).map(([method, operation]) => [
        method,
        (...args: ReadonlyArray<unknown>) => {
          const effect = (operation as (...args: ReadonlyArray<unknown>) => unknown)(...args)
          return Effect.isEffect(effect)
            ? Effect.suspend(() => {
                step()
                return effect
              })
            : effect
        }
      ])
    )
    return stepped as unknown as FileSystem.FileSystem
  }

const restore = ({ work }: Places) => {
  for (const name of NFS.readdirSync(work)) NFS.rmSync(`${work}/${name}`, { recursive: true })
  NFS.mkdirSync(`${work}/d/sub`, { recursive: true })
  for (const path of ["f", "d/f", "d/sub/g"]) NFS.writeFileSync(`${work}/${path}`, inside)
}

/** Thousands of trees are made and removed: a file system in memory does that in a third of the time. */
const memory = NFS.existsSync("/dev/shm") ? "/dev/shm" : OS.tmpdir()

const swapping = (wrap: Wrap) =>
  Effect.gen(function* () {
    const plan = {
      moment: Infinity,
      attacker: attackers[0] as Attacker,
      calls: 0,
      places: undefined as Places | undefined
    }
    const attacked: Wrap = (open) => {
      const wrapped = wrap(open)
      return {
        ...wrapped,
        ...before(() => {
          const call = plan.calls++
          if (plan.places !== undefined) plan.attacker.at(call, plan.moment, plan.places)
        })(wrapped)
      }
    }
    const made = yield* sandbox(attacked, undefined, memory)
    return { ...made, plan }
  })

/** More steps than any operation takes when nobody disturbs it for ever. */
const maxSteps = 400

describe.skipIf(process.platform !== "linux")("whatever is exchanged at whatever moment (on Linux)", () => {
  // Some are others by another name; a watch does not end.
  const left = [
    "watch",
    "exists",
    "readFileString",
    "writeFileString",
    "open wx+",
    "open ax",
    "open ax+",
    "open a+"
  ]
  for (const operation of operations.filter(({ name }) => !left.includes(name)))
    for (const target of ["d/f", "d", "d/sub/new"] as const)
      it.scoped(`${operation.name} of ${target}`, () =>
        Effect.gen(function* () {
          const { fs, work, outside, opened, plan } = yield* swapping((open) => open)
          const places = { work, outside }
          plan.places = places
          const untouched = snapshot(outside)
          let runs = 0
          for (const attacker of attackers.filter(({ of }) => of === "directory" || of === fits[target]))
            for (let moment = 0; moment < (attacker.endless ? 2 : maxSteps); moment++) {
              plan.places = undefined
              restore(places)
              plan.attacker = attacker
              plan.moment = moment
              plan.calls = 0
              plan.places = places
              const exit = yield* Effect.exit(Effect.scoped(operation.run(fs, `${work}/${target}`, work)))
              plan.places = undefined
              runs += 1
              const where = `${attacker.name} at step ${moment}`
              expect(snapshot(outside), where).toEqual(untouched)
              expect(
                snapshot(work).some((line) => line.includes("TOP SECRET")),
                where
              ).toBe(false)
              expect(opened.now, where).toBe(0)
              const told = Exit.isSuccess(exit) ? seen(exit.value) : Inspectable.toStringUnknown(exit.cause)
              const hidden = ["TOP SECRET", "secret-name", "/proc/self", "ELOOP"]
              if (operation.name === "stat") hidden.push(String(secret.length))
              if (operation.name !== "readLink") hidden.push(outside)
              const leaked = hidden.filter((text) => told.includes(text))
              expect(leaked, `${where}: ${told.slice(0, 1000)}`).toEqual([])
              if (plan.calls <= moment) break
            }
          expect(runs).toBeGreaterThan(8)
        })
      )
})

const seen = (value: unknown): string => {
  const bytes = (part: unknown): string =>
    part instanceof Uint8Array ? new TextDecoder().decode(part) : Inspectable.toStringUnknown(part)
  if (
    typeof value === "object" &&
    value !== null &&
    Symbol.iterator in value &&
    !(value instanceof Uint8Array)
  )
    return [...(value as Iterable<unknown>)].map(bytes).join(" ")
  if (typeof value === "object" && value !== null && "value" in value) return bytes(value.value)
  if (typeof value === "object" && value !== null && "size" in value) return String(value.size)
  return bytes(value)
}

describe.skipIf(process.platform !== "linux")("removing (on Linux)", () => {
  it.scoped("takes nothing that was not there when it looked", () =>
    Effect.gen(function* () {
      let late: string | undefined
      const { fs, work } = yield* sandbox((open) => ({
        ...open,
        remove: (path, options) =>
          Effect.suspend(() => {
            if (late !== undefined && path.endsWith("/sub")) NFS.writeFileSync(late, "late")
            return open.remove(path, options)
          })
      }))
      late = `${work}/d/sub/late`
      const error = yield* Effect.flip(fs.remove("d", { recursive: true }))
      expect(error.message).toContain("ENOTEMPTY")
      expect(NFS.readFileSync(late, "utf8")).toBe("late")
      late = undefined
      yield* fs.remove("d", { recursive: true })
      expect(NFS.existsSync(`${work}/d`)).toBe(false)
    })
  )
})

describe.skipIf(process.platform !== "linux")("what is not opened (on Linux)", () => {
  it.scoped("shows nothing of outside when it becomes a link", () =>
    Effect.gen(function* () {
      const { fs, work, outside, plan } = yield* swapping((open) => open)
      const path = `${work}/d/f`
      mkfifo(`${outside}/fifo`)
      const hidden = NFS.statSync(`${outside}/fifo`).ino
      plan.attacker = {
        name: "a FIFO becomes a link to another",
        of: "file",
        at: (call, moment) => {
          if (call === moment) link(`${outside}/fifo`, path)
        }
      }
      for (let moment = 0; moment < maxSteps; moment++) {
        plan.places = undefined
        restore({ work, outside })
        NFS.rmSync(path)
        mkfifo(path)
        plan.moment = moment
        plan.calls = 0
        plan.places = { work, outside }
        const info = yield* Effect.option(fs.stat(path))
        expect(Option.getOrUndefined(Option.flatMap(info, ({ ino }) => ino)), `step ${moment}`).not.toBe(
          hidden
        )
        if (plan.calls <= moment) break
      }
    })
  )

  it.scoped("shows nothing of a file outside when it is a link for one step", () =>
    Effect.gen(function* () {
      let asked = 0
      const { fs, work } = yield* sandbox((open) => ({
        ...open,
        stat: (path) =>
          Effect.suspend(() => {
            asked += 1
            if (asked !== 2) return open.stat(path)
            link(`${work}/../outside/f`, `${work}/d/f`)
            return Effect.tap(open.stat(path), () => {
              NFS.rmSync(`${work}/d/f`)
              mkfifo(`${work}/d/f`)
            })
          })
      }))
      NFS.rmSync(`${work}/d/f`)
      mkfifo(`${work}/d/f`)
      expect((yield* fs.stat("d/f")).type).toBe("FIFO")
      expect(asked).toBe(4)
    })
  )
})

describe("holding what is opened", () => {
  it.scoped("takes no real path that is not the whole of it", () =>
    Effect.gen(function* () {
      const { under, work } = yield* sandbox((open) => ({
        ...open,
        readLink: (path) => Effect.map(open.readLink(path), (real) => real.replace("/d/f", "/\uFFFD/f"))
      }))
      const fs = under({ "fs.read": ["/**"] })
      expect(yield* fs.readFileString(`${work}/f`)).toBe(inside)
      expect(yield* Effect.flip(fs.readFile(`${work}/d/f`))).toMatchObject({ reason: "Busy" })
    })
  )

  it.scoped("ends with the attempt that was in vain, not with the caller", () =>
    Effect.gen(function* () {
      const { fs, work, opened, plan, outside } = yield* swapping((open) => open)
      plan.places = { work, outside }
      let vain = 0
      for (let moment = 0; moment < 10; moment++) {
        restore(plan.places)
        plan.calls = 0
        plan.moment = moment
        const before = opened.now
        const exit = yield* Effect.exit(fs.open(`${work}/d/f`, { flag: "r+" }))
        expect(opened.now - before).toBe(Exit.isSuccess(exit) ? 1 : 0)
        if (Exit.isFailure(exit)) vain += 1
      }
      expect(vain).toBeGreaterThan(0)
    })
  )

  it.scoped("is not given up for a reason that may pass", () =>
    Effect.gen(function* () {
      let failing = true
      const { fs, outside, work } = yield* sandbox((open) => ({
        ...open,
        open: (path, options) =>
          failing && path.startsWith("/proc/self/fd")
            ? Effect.fail(
                new SystemError({
                  reason: "Unknown",
                  module: "FileSystem",
                  method: "open",
                  description: "EMFILE: too many open files, open '/proc/self/fd/.'"
                })
              )
            : open.open(path, options)
      }))
      const error = yield* Effect.flip(fs.readFile("f"))
      expect(error).toMatchObject({ reason: "Unknown", pathOrDescriptor: "f" })
      failing = false
      expect(yield* fs.readFileString("f")).toBe(inside)
      expect(yield* Effect.flip(fs.readFile(`${work}/../outside/f`))).toMatchObject({
        reason: "PermissionDenied"
      })
      expect(NFS.existsSync(`${outside}/f`)).toBe(true)
    })
  )
})

describe("without descriptors", () => {
  const existing = [
    "open r",
    "open r+",
    "open w",
    "open w+",
    "readFile",
    "stream",
    "stat",
    "truncate",
    "writeFile"
  ]
  for (const operation of operations.filter(({ name }) => existing.includes(name)))
    it.scoped.each([
      ["comes right before it opens", false],
      ["is there only while it opens", true]
    ] as const)(`${operation.name} notices a link that %s`, ([, back]) =>
      Effect.gen(function* () {
        let swap = false
        const made = yield* sandbox((open) => {
          const wrapped = withoutDescriptors(open)
          return {
            ...wrapped,
            open: (path, options) =>
              Effect.suspend(() => {
                if (swap && path.endsWith("/d/f")) {
                  swap = false
                  link(path.replace("/work/d/f", "/outside/f"), path)
                  return Effect.tap(wrapped.open(path, options), () => {
                    if (back) file(path)
                  })
                }
                return wrapped.open(path, options)
              })
          }
        })
        const { fs, work, outside, opened } = made
        const untouched = snapshot(outside)
        swap = true
        const exit = yield* Effect.exit(Effect.scoped(operation.run(fs, `${work}/d/f`, work)))
        expect(swap).toBe(false)
        // When the file is back, that is what it goes on with.
        expect(Exit.isFailure(exit)).toBe(!back)
        const told = Exit.isSuccess(exit) ? seen(exit.value) : ""
        expect(told.includes("TOP SECRET") || told.includes(String(secret.length))).toBe(false)
        expect(snapshot(outside)).toEqual(untouched)
        expect(opened.now).toBe(0)
      })
    )

  it.scoped.each(
    operations.filter(({ name }) => existing.includes(name)).map(({ name, run }) => [name, run] as const)
  )("%s notices a link that is there only while it is pinned", ([, run]) =>
    Effect.gen(function* () {
      let swap = false
      const { fs, work, outside, opened } = yield* sandbox((open) => {
        const wrapped = withoutProc(open)
        return {
          ...wrapped,
          stat: (path) =>
            Effect.tap(wrapped.stat(path), () => {
              if (swap && path.endsWith("/d/f")) link(path.replace("/work/d/f", "/outside/f"), path)
            }),
          open: (path, options) =>
            Effect.tap(wrapped.open(path, options), () => {
              if (!swap || !path.startsWith("/dev/fd/")) return
              swap = false
              file(`${work}/d/f`)
            })
        }
      })
      yield* fs.readFile(`${work}/f`)
      const untouched = snapshot(outside)
      swap = true
      const value = yield* Effect.scoped(run(fs, `${work}/d/f`, work))
      expect(swap).toBe(false)
      expect(seen(value).includes("TOP SECRET") || seen(value).includes(String(secret.length))).toBe(false)
      expect(snapshot(outside)).toEqual(untouched)
      expect(opened.now).toBe(0)
    })
  )

  it.scoped.each(
    operations
      .filter(({ name }) => [...existing, "open a"].includes(name))
      .map(({ name, run }) => [name, run] as const)
  )("%s waits for no FIFO", ([, run]) =>
    Effect.gen(function* () {
      let swap = false
      const { fs, work, outside, opened } = yield* sandbox((open) => {
        const wrapped = withoutProc(open)
        return {
          ...wrapped,
          stat: (path) =>
            Effect.tap(wrapped.stat(path), () => {
              if (swap && path.endsWith("/d/f")) fifo(Path.dirname(outside), path)
            })
        }
      })
      yield* fs.readFile(`${work}/f`)
      swap = true
      yield* Effect.exit(Effect.scoped(run(fs, `${work}/d/f`, work)))
      expect(opened.now).toBe(0)
      // Threads that waited for the other end would be missing here.
      yield* Effect.all(
        Array.from({ length: 8 }, () => fs.readFile(`${work}/f`)),
        { concurrency: "unbounded" }
      )
    })
  )
})
