/**
 * The `FileSystem` of a job: the operator's, held to `fs.read` and `fs.write` of the lease (§9).
 *
 * Each operation needs its capability three times: on the canonical path, on every path that this becomes as
 * links are followed, and on the real path in the end. Where a pattern begins with a link, as `/work/**` does when
 * `/work` leads to `/data/work`, it covers what is there (Aliases.ts); links below that it does not follow.
 *
 * | operation | needs |
 * |---|---|
 * | `access`, `exists` | `fs.read`; to ask for `writable` also `fs.write` |
 * | `readFile`, `readFileString`, `stream`, `stat`, `realPath`, `watch` | `fs.read` where the path leads |
 * | `readLink` | `fs.read` on the link itself |
 * | `readDirectory` | `fs.read` on the directory; recursion enters what the lease covers, and no links |
 * | `open`, `writeFile`, `writeFileString`, `sink` | by flag: `r` `fs.read`; `w`, `a` `fs.write`; with `+` both |
 * | `truncate`, `chmod`, `chown`, `utimes` | `fs.write` where the path leads |
 * | `makeDirectory` | `fs.write` on every directory that is made |
 * | `makeTemp*` | `fs.write` on what is made, in `directory` or else where relative paths start |
 * | `remove` | `fs.write` on each entry that goes; of a link, the link goes |
 * | `copy`, `copyFile` | `fs.read` on what is copied, `fs.write` on what it becomes |
 * | `link` | both on the source, `fs.write` on the new name |
 * | `symlink` | `fs.write` on the link, `fs.read` or `fs.write` on what it names |
 * | `rename` | `fs.write` on both; `fs.read` on the source where the target may be read; for a directory, on all below |
 *
 * A copy under another name must not open what was closed under the old one: hence the last three rows. A
 * refusal is a `SystemError` with the reason `PermissionDenied`, whose `cause` is the protocol's error. It is
 * the same whether or not anything exists outside of the lease, and never says where a link leads.
 *
 * Where `/proc/self/fd` exists (Linux) nothing can be exchanged between check and use: operations name an entry
 * below an open directory, or what was opened and then identified. Elsewhere the real path is checked just
 * before, and an open file is compared with it by device and inode: that narrows the race for directories
 * (`makeDirectory`, `rename`, `remove`, `link`, `symlink`, a creation) and does not close it. Detected once.
 *
 * What this does not do:
 * - A hard link within the lease to a file that has another name outside is that file; nothing tells them
 *   apart. Only somebody who could already write to the lease and see the file can make one.
 * - Only files and directories are opened (Pinned.ts). A device, socket or FIFO is asked about (`stat`, `access`) by
 *   name: who exchanges it twice in that moment shows the metadata of another device, socket or FIFO.
 * - Who exchanges a name for a link and back between single steps can at times tell by the kind of an error
 *   whether the link led to something. What that is stays closed.
 * - `rename` of a file moves a directory if somebody with access to the lease puts one there in that moment.
 * - Directories on the way must be readable, not only searchable, as must be a file for `stat` or `chmod` and
 *   for writing: they are opened for it.
 * - A file system that answers to nobody (FUSE, a network) holds a thread, as it does everywhere.
 * - Windows paths are not understood.
 */
import type { PlatformError } from "@effect/platform/Error"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { LeaseService } from "../../services/lease/Lease.js"
import * as Leased from "../../services/lease/Leased.js"
import type { Capability } from "./fs/Aliases.js"
import * as Authority from "./fs/Authority.js"
import * as Copying from "./fs/Copying.js"
import * as Directories from "./fs/Directories.js"
import * as Files from "./fs/Files.js"
import type { FsParts } from "./fs/FsParts.js"
import type { FoundPlace } from "./fs/Holding.js"
import * as Names from "./fs/Names.js"
import * as Places from "./fs/Places.js"
import * as Requests from "./fs/Requests.js"
import * as Temporary from "./fs/Temporary.js"
import * as Trees from "./fs/Trees.js"
import * as Watch from "./fs/Watch.js"

/** What `FileSystem.make` is given. */
type Operations = Parameters<typeof FileSystem.make>[0]

/** Does something with what a path leads to, when the lease allows it what it needs. */
const finding = <A>(
  { authority, places }: FsParts,
  method: string,
  path: string,
  needs: ReadonlyArray<Capability>,
  use: (
    request: Requests.AccessRequest,
    found: FoundPlace
  ) => Effect.Effect<A, PlatformError | Requests.Changed, Scope.Scope>
) =>
  Effect.flatMap(authority.admit(method, path, needs), (request) =>
    Requests.settled(
      request,
      Effect.flatMap(places.follow(request), (found) => use(request, found))
    )
  )

/** Opens a file, when the lease allows what the flag needs. */
const opening = (
  { authority, files }: FsParts,
  method: string,
  path: string,
  flag: FileSystem.OpenFlag,
  mode: number | undefined
): Effect.Effect<FileSystem.File, PlatformError, Scope.Scope> =>
  Effect.flatMap(authority.admit(method, path, Files.needsOf(flag)), (request) =>
    files.file(request, flag, mode)
  )

/** Changes what a path leads to, by a path that leads nowhere else. */
const changing = (
  parts: FsParts,
  method: string,
  path: string,
  change: (path: string) => Effect.Effect<void, PlatformError>
) =>
  finding(parts, method, path, Requests.write, (request, found) =>
    Effect.flatMap(parts.files.open(request, found, "r"), (opened) =>
      Requests.io(request, change(opened.path))
    )
  )

/** Says whether something is there, and may be used as the options say. */
const access = (parts: FsParts, path: string, options: FileSystem.AccessFileOptions = {}) =>
  finding(parts, "access", path, options.writable ? Requests.both : Requests.read, (request, found) =>
    Effect.gen(function* () {
      const { files, open } = parts
      if (!found.exists) return yield* Requests.notFound(request)
      if (!options.readable && !options.writable) return
      if (!Files.isOpenable(yield* files.typeOf(request, found)))
        return yield* files.unopened(request, found, open.access(found.at, options))
      const opened = yield* files.open(request, found, "r")
      yield* Requests.io(request, open.access(opened.path, options))
    })
  )

/** What tells of files and directories, and what is done to them where they are. */
const metadata = (parts: FsParts) => {
  const { authority, files, open, places } = parts
  return {
    access: (path, options) => access(parts, path, options),
    chmod: (path, mode) => changing(parts, "chmod", path, (at) => open.chmod(at, mode)),
    chown: (path, uid, gid) => changing(parts, "chown", path, (at) => open.chown(at, uid, gid)),
    readLink: (path) =>
      Effect.flatMap(authority.admit("readLink", path, Requests.read), (request) =>
        Requests.settled(
          request,
          Effect.flatMap(places.place(request), (place) => Requests.io(request, open.readLink(place.at)))
        )
      ),
    realPath: (path) =>
      finding(parts, "realPath", path, Requests.read, (request, found) =>
        found.exists ? Effect.succeed(found.real) : Requests.notFound(request)
      ),
    stat: (path) => finding(parts, "stat", path, Requests.read, files.info),
    utimes: (path, atime, mtime) => changing(parts, "utimes", path, (at) => open.utimes(at, atime, mtime)),
    watch: (path, options) => Watch.watch(parts, path, options)
  } satisfies Partial<Operations>
}

/** What reads and writes what is in files. */
const contents = (parts: FsParts) =>
  ({
    open: (path, options) => opening(parts, "open", path, options?.flag ?? "r", options?.mode),
    readFile: (path) =>
      Effect.scoped(Effect.flatMap(opening(parts, "readFile", path, "r", undefined), Files.readAll)),
    truncate: (path, length) =>
      finding(parts, "truncate", path, Requests.write, (request, found) =>
        Effect.flatMap(parts.files.open(request, found, "r+"), ({ file }) =>
          Requests.io(request, file.truncate(length))
        )
      ),
    writeFile: (path, data, options) =>
      Effect.scoped(
        Effect.flatMap(opening(parts, "writeFile", path, options?.flag ?? "w", options?.mode), (file) =>
          file.writeAll(data)
        )
      )
  }) satisfies Partial<Operations>

/** What lists directories and changes what is in them: entries come, go, and get other names. */
const entries = (parts: FsParts) =>
  ({
    copy: (from, to, options) => Copying.copy(parts, from, to, options ?? {}),
    copyFile: (from, to) =>
      Copying.copyFile(parts, from, to, { method: "copyFile", exclusive: false, preserveTimestamps: false }),
    link: (from, to) => Names.link(parts, from, to),
    makeDirectory: (path, options) => Directories.makeDirectory(parts, "makeDirectory", path, options ?? {}),
    makeTempDirectory: (options) => Temporary.makeTempDirectory(parts, options),
    makeTempDirectoryScoped: (options) => Temporary.makeTempDirectoryScoped(parts, options),
    makeTempFile: (options) => Temporary.makeTempFile(parts, options),
    makeTempFileScoped: (options) => Temporary.makeTempFileScoped(parts, options),
    readDirectory: (path, options) => Trees.list(parts, path, options ?? {}),
    remove: (path, options) => Trees.remove(parts, "remove", path, options ?? {}),
    rename: (from, to) => Names.rename(parts, from, to),
    symlink: (target, path) => Names.symlink(parts, "symlink", target, path)
  }) satisfies Partial<Operations>

/** Returns the file system of a job. Nothing is opened or asked before its first use. */
export const make = (open: FileSystem.FileSystem, lease: LeaseService): FileSystem.FileSystem => {
  const authority = Authority.make(open, lease)
  const cleaning = Authority.forCleaningUp(open, lease)
  const places = Places.make(open, authority)
  const files = Files.make(open, authority, places)
  const parts: FsParts = { open, authority, cleaning, places, files }

  const leased = FileSystem.make({ ...metadata(parts), ...contents(parts), ...entries(parts) })
  return {
    ...leased,
    // Chunks that were read ahead are not handed out either, once the lease is over.
    stream: (path, options) =>
      Stream.unwrap(
        Effect.map(authority.admit("stream", path, Requests.read), (request) =>
          Stream.tap(leased.stream(path, options), () => authority.recheck(request))
        )
      )
  }
}

/** Gives every job a `FileSystem` that holds it to its lease. */
export const leased: Leased.Leased = Leased.make(FileSystem.FileSystem, (open, { lease }) =>
  Leased.lazily(() => make(open, lease))
)
