/** A directory that a lease covers beside one that it does not, and every operation to try on both. */
import { execFileSync } from "node:child_process"
import * as NFS from "node:fs"
import * as OS from "node:os"
import { type PlatformError, SystemError } from "@effect/platform/Error"
import * as FileSystem from "@effect/platform/FileSystem"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { expect } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { leased } from "../../../src/layers/lease/LeasedFileSystem.js"
import { PermissionDenied } from "../../../src/protocol/Errors.js"
import { compile, type Lease as Terms } from "../../../src/protocol/Lease.js"
import type { JobService } from "../../../src/services/jobs/Job.js"
import { type LeaseError, type LeaseService, leaseErrorOf } from "../../../src/services/lease/Lease.js"

export const secret = `TOP SECRET ${".".repeat(1056)}`
export const inside = "inside"

export interface Sandbox {
  /** Covered by the default lease. */
  readonly work: string
  readonly outside: string
  readonly fs: FileSystem.FileSystem
  /** The same places under another lease. */
  readonly under: (terms: Terms, workspace?: string, bounds?: Terms) => FileSystem.FileSystem
  /** What the lease answers to everything, when it is set, and what an operation that writes waits for. */
  readonly state: { refuse: LeaseError | undefined; flushed: Effect.Effect<void> }
  /** Files and directories that are open now. */
  readonly opened: { now: number; total: number }
  readonly put: (path: string, text?: string) => void
}

export type Wrap = (open: FileSystem.FileSystem) => FileSystem.FileSystem

const leaseOf = (
  terms: Terms,
  workspace: string | undefined,
  state: Sandbox["state"],
  bounds: Terms
): LeaseService => {
  const compiled = compile(terms)
  const check = (capability: string, target: string): Either.Either<string, LeaseError> =>
    state.refuse !== undefined
      ? Either.left(state.refuse)
      : Either.mapLeft(
          compiled.permits(capability, target),
          (why) => new PermissionDenied({ message: `${capability} refused: ${why}` })
        )
  return {
    terms,
    constraints: {},
    bounds,
    workspace,
    fetching: { maxBytes: 1024 * 1024, timeout: Duration.minutes(1), traceHeaders: false },
    check,
    authorize: (capability, target) => Effect.suspend(() => check(capability, target)),
    namesHost: () => false,
    remaining: Effect.succeed(new Map()),
    flushed: Effect.suspend(() => state.flushed),
    spend: () => Effect.void
  }
}

/** Counts what is open. */
const counting =
  (opened: Sandbox["opened"]): Wrap =>
  (open) => ({
    ...open,
    open: (path, options) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          opened.now += 1
          opened.total += 1
        }),
        () =>
          Effect.sync(() => {
            opened.now -= 1
          })
      ).pipe(Effect.zipRight(open.open(path, options)))
  })

const without =
  (...hidden: ReadonlyArray<string>): Wrap =>
  (open) => ({
    ...open,
    open: (path, options) =>
      hidden.some((prefix) => path.startsWith(prefix))
        ? Effect.fail(
            new SystemError({
              reason: "NotFound",
              module: "FileSystem",
              method: "open",
              pathOrDescriptor: path
            })
          )
        : open.open(path, options)
  })

/** A file system on which no directory can be held: as on systems without /proc. */
export const withoutProc = without("/proc/self/fd")

/** A file system whose descriptors no path leads to. */
export const withoutDescriptors = without("/proc/self/fd", "/dev/fd")

export const sandbox = (
  wrap: Wrap = (open) => open,
  terms?: (work: string) => Terms,
  parent = OS.tmpdir()
): Effect.Effect<Sandbox, never, Scope.Scope> =>
  Effect.gen(function* () {
    const root = yield* Effect.acquireRelease(
      Effect.sync(() => NFS.realpathSync(NFS.mkdtempSync(`${parent}/leased-`))),
      (path) => Effect.sync(() => NFS.rmSync(path, { recursive: true, force: true }))
    )
    const work = `${root}/work`
    const outside = `${root}/outside`
    NFS.mkdirSync(`${work}/d/sub`, { recursive: true })
    NFS.mkdirSync(`${outside}/sub`, { recursive: true })
    NFS.writeFileSync(`${work}/f`, inside)
    NFS.writeFileSync(`${work}/d/f`, inside)
    NFS.writeFileSync(`${work}/d/sub/g`, inside)
    NFS.writeFileSync(`${outside}/f`, secret)
    NFS.writeFileSync(`${outside}/secret-name`, secret)
    NFS.writeFileSync(`${outside}/sub/g`, secret)
    NFS.writeFileSync(`${outside}/sub/secret-name`, secret)
    NFS.symlinkSync("loop", `${outside}/loop`)
    const node = yield* Effect.provide(FileSystem.FileSystem, NodeFileSystem.layer)
    const opened = { now: 0, total: 0 }
    const state: Sandbox["state"] = { refuse: undefined, flushed: Effect.void }
    const open = wrap(counting(opened)(node))
    const under: Sandbox["under"] = (granted, workspace, bounds = granted) =>
      leased.lease(open, {
        lease: leaseOf(granted, workspace, state, bounds),
        job: {} as JobService
      }) as FileSystem.FileSystem
    const all = terms?.(work) ?? { "fs.read": [`${work}/**`], "fs.write": [`${work}/**`] }
    return {
      work,
      outside,
      opened,
      state,
      under,
      fs: under(all, work),
      put: (path, text = inside) => NFS.writeFileSync(path, text)
    }
  })

export const mkfifo = (path: string): void => {
  execFileSync("mkfifo", [path])
}

/** Everything that can be seen of a directory, to tell whether it was touched. Links are not followed. */
export const snapshot = (path: string): ReadonlyArray<string> =>
  NFS.readdirSync(path)
    .sort()
    .flatMap((name) => {
      const at = `${path}/${name}`
      const stat = NFS.lstatSync(at)
      const text = stat.isFile() ? NFS.readFileSync(at, "utf8") : ""
      const line = [at, stat.mode, stat.uid, stat.nlink, stat.mtimeMs, stat.size, text].join(" ")
      return stat.isDirectory() ? [line, ...snapshot(at)] : [line]
    })

/** Fails as §9 says, and tells nothing of the places given. */
export const refused = <A>(
  effect: Effect.Effect<A, PlatformError, Scope.Scope>,
  given?: string,
  ...hidden: ReadonlyArray<string>
) =>
  Effect.gen(function* () {
    const error = yield* Effect.flip(Effect.scoped(effect))
    expect(error).toMatchObject({ _tag: "SystemError", reason: "PermissionDenied", module: "FileSystem" })
    expect(leaseErrorOf(error)).toBeInstanceOf(PermissionDenied)
    if (given !== undefined) expect((error as SystemError).pathOrDescriptor).toBe(given)
    const own = leaseErrorOf(error)
    const text = `${error.description} ${own?.message} ${JSON.stringify(own?.details)}`
    for (const place of hidden) expect(text).not.toContain(place)
    expect(own?.message.length).toBeLessThanOrEqual(512)
    return error
  })

type Operation = (
  fs: FileSystem.FileSystem,
  path: string,
  work: string
) => Effect.Effect<unknown, PlatformError, Scope.Scope>

const bytes = new TextEncoder().encode("written")
const flags = ["r", "r+", "w", "wx", "w+", "wx+", "a", "ax", "a+", "ax+"] as const

/** Every operation on one path, by whether it reads or writes there, and whether it follows a link there. */
export const operations: ReadonlyArray<{
  readonly name: string
  readonly does: "read" | "write" | "both"
  readonly follows: boolean
  readonly run: Operation
}> = [
  { name: "access", does: "read", follows: true, run: (fs, path) => fs.access(path) },
  {
    name: "access for reading",
    does: "read",
    follows: true,
    run: (fs, path) => fs.access(path, { readable: true })
  },
  {
    name: "access for writing",
    does: "both",
    follows: true,
    run: (fs, path) => fs.access(path, { writable: true })
  },
  { name: "exists", does: "read", follows: true, run: (fs, path) => fs.exists(path) },
  { name: "chmod", does: "write", follows: true, run: (fs, path) => fs.chmod(path, 0o600) },
  {
    name: "chown",
    does: "write",
    follows: true,
    run: (fs, path) => fs.chown(path, process.getuid?.() ?? 0, process.getgid?.() ?? 0)
  },
  {
    name: "copy from",
    does: "read",
    follows: false,
    run: (fs, path, work) => fs.copy(path, `${work}/copied`)
  },
  {
    name: "copy to",
    does: "write",
    follows: true,
    run: (fs, path, work) => fs.copy(`${work}/f`, path, { overwrite: true })
  },
  {
    name: "copyFile from",
    does: "read",
    follows: true,
    run: (fs, path, work) => fs.copyFile(path, `${work}/copied`)
  },
  {
    name: "copyFile to",
    does: "write",
    follows: true,
    run: (fs, path, work) => fs.copyFile(`${work}/f`, path)
  },
  {
    name: "link from",
    does: "both",
    follows: true,
    run: (fs, path, work) => fs.link(path, `${work}/linked`)
  },
  { name: "link to", does: "write", follows: false, run: (fs, path, work) => fs.link(`${work}/f`, path) },
  { name: "makeDirectory", does: "write", follows: false, run: (fs, path) => fs.makeDirectory(path) },
  {
    name: "makeDirectory below",
    does: "write",
    follows: true,
    run: (fs, path) => fs.makeDirectory(`${path}/x/y`, { recursive: true })
  },
  {
    name: "makeTempDirectory",
    does: "write",
    follows: true,
    run: (fs, path) => fs.makeTempDirectory({ directory: path })
  },
  {
    name: "makeTempDirectoryScoped",
    does: "write",
    follows: true,
    run: (fs, path) => fs.makeTempDirectoryScoped({ directory: path })
  },
  {
    name: "makeTempFile",
    does: "write",
    follows: true,
    run: (fs, path) => fs.makeTempFile({ directory: path })
  },
  {
    name: "makeTempFileScoped",
    does: "write",
    follows: true,
    run: (fs, path) => fs.makeTempFileScoped({ directory: path })
  },
  ...flags.map((flag) => ({
    name: `open ${flag}`,
    does: flag === "r" ? ("read" as const) : flag.includes("+") ? ("both" as const) : ("write" as const),
    follows: !flag.includes("x"),
    run: ((fs, path) =>
      Effect.gen(function* () {
        const file = yield* fs.open(path, { flag })
        if (flag === "r") return yield* file.readAlloc(100)
        return yield* file.writeAll(bytes)
      })) satisfies Operation
  })),
  { name: "readDirectory", does: "read", follows: true, run: (fs, path) => fs.readDirectory(path) },
  {
    name: "readDirectory recursive",
    does: "read",
    follows: true,
    run: (fs, path) => fs.readDirectory(path, { recursive: true })
  },
  { name: "readFile", does: "read", follows: true, run: (fs, path) => fs.readFile(path) },
  { name: "readFileString", does: "read", follows: true, run: (fs, path) => fs.readFileString(path) },
  { name: "readLink", does: "read", follows: false, run: (fs, path) => fs.readLink(path) },
  { name: "realPath", does: "read", follows: true, run: (fs, path) => fs.realPath(path) },
  { name: "remove", does: "write", follows: false, run: (fs, path) => fs.remove(path) },
  {
    name: "remove recursive",
    does: "write",
    follows: false,
    run: (fs, path) => fs.remove(path, { recursive: true, force: true })
  },
  {
    name: "rename from",
    does: "write",
    follows: false,
    run: (fs, path, work) => fs.rename(path, `${work}/moved`)
  },
  { name: "rename to", does: "write", follows: false, run: (fs, path, work) => fs.rename(`${work}/f`, path) },
  {
    name: "sink",
    does: "write",
    follows: true,
    run: (fs, path) => Stream.run(Stream.make(bytes), fs.sink(path))
  },
  { name: "stat", does: "read", follows: true, run: (fs, path) => fs.stat(path) },
  { name: "stream", does: "read", follows: true, run: (fs, path) => Stream.runCollect(fs.stream(path)) },
  {
    name: "symlink at",
    does: "write",
    follows: false,
    run: (fs, path, work) => fs.symlink(`${work}/f`, path)
  },
  { name: "truncate", does: "write", follows: true, run: (fs, path) => fs.truncate(path, 3) },
  { name: "utimes", does: "write", follows: true, run: (fs, path) => fs.utimes(path, 1, 1) },
  {
    name: "watch",
    does: "read",
    follows: true,
    // Ends by being refused, and only so.
    run: (fs, path) => Stream.runDrain(fs.watch(path))
  },
  { name: "writeFile", does: "write", follows: true, run: (fs, path) => fs.writeFile(path, bytes) },
  {
    name: "writeFile append",
    does: "write",
    follows: true,
    run: (fs, path) => fs.writeFile(path, bytes, { flag: "a" })
  },
  {
    name: "writeFileString",
    does: "write",
    follows: true,
    run: (fs, path) => fs.writeFileString(path, "written")
  }
]
