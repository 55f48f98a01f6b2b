/** Watches the files that modules of the user's are made of, and has them loaded anew. */
import { existsSync, type FSWatcher, statSync, watch } from "node:fs"
import { basename, dirname } from "node:path"
import { MessageChannel, receiveMessageOnPort } from "node:worker_threads"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import type { SeenFile } from "./reloadHooks.js"
import { installHooks } from "./typeScript.js"

/** Files that are watched. */
export interface Watched {
  /** Waits until one of the files was saved, and whoever saves has come to rest. */
  readonly saved: Effect.Effect<void>
  /** Watches a file, which need not be there yet. */
  readonly file: (path: string) => void
  /** Returns the files that were read since it was asked last, newest first. */
  readonly read: () => ReadonlyArray<string>
}

/** Time in which a save is followed by others, of an editor or a compiler. */
const rest = "80 millis"

/** Returns which folder has a name; `undefined` when none has. */
const identityOf = (folder: string): string | undefined => {
  const stats = statSync(folder, { throwIfNoEntry: false })
  return stats === undefined ? undefined : `${stats.dev} ${stats.ino} ${stats.birthtimeMs}`
}

/** Milliseconds that the clock of a file system may be behind: a tick of the kernel. */
const tick = 20

/** Watches the folders of files, and not the files: editors write another file and give it the name. */
class Folders {
  readonly #folders = new Map<
    string,
    { readonly names: Map<string, Set<string>>; readonly watcher: FSWatcher }
  >()

  constructor(private readonly changed: () => void) {}

  /** Watches a file; one that was saved before it was watched has changed already. */
  see({ at, file, isMissing }: SeenFile): void {
    if (!this.add(file)) return
    const stats = statSync(file, { throwIfNoEntry: false })
    if (stats !== undefined && (isMissing || stats.mtimeMs >= at - tick)) this.changed()
  }

  /** Watches a file, and tells whether it was not before; where its folder is not there, for what would make it. */
  private add(file: string): boolean {
    let path = file
    while (!existsSync(dirname(path)) && dirname(path) !== path) path = dirname(path)
    const folder = dirname(path)
    const names = (this.#folders.get(folder) ?? this.#watch(folder))?.names
    const files = names?.get(basename(path))
    if (files?.has(file) === true) return false
    if (files === undefined) names?.set(basename(path), new Set([file]))
    else files.add(file)
    return true
  }

  #watch(folder: string) {
    try {
      const names = new Map<string, Set<string>>()
      const watched = identityOf(folder)
      const watcher = watch(folder, (_, name) => {
        const isOurs = name === null || names.has(name)
        // Another one of that name may come, or be there already, which this does not see.
        if (identityOf(folder) !== watched) this.#moved(folder)
        if (isOurs) this.changed()
      })
      watcher.on("error", () => this.#moved(folder))
      watcher.unref()
      const made = { names, watcher }
      this.#folders.set(folder, made)
      return made
    } catch {
      // Out of watches, or not ours to read: what is in it is loaded anew with the others.
      return undefined
    }
  }

  #moved(folder: string): void {
    const gone = this.#folders.get(folder)
    if (gone === undefined) return
    this.#folders.delete(folder)
    gone.watcher.close()
    for (const files of gone.names.values())
      for (const file of files) if (this.add(file) && existsSync(file)) this.changed()
  }

  close(): void {
    for (const { watcher } of this.#folders.values()) watcher.close()
    this.#folders.clear()
  }
}

/** Installs the hooks, for good: Node keeps them as long as the process; and watches what they see for the scope. */
export const watched: Effect.Effect<Watched, never, Scope.Scope> = Effect.gen(function* () {
  const changes = yield* Queue.sliding<void>(1)
  const watching = new Folders(() => changes.unsafeOffer(undefined))
  const { port1, port2 } = new MessageChannel()
  const files = new Set<string>()
  const see = (seen: SeenFile) => {
    watching.see(seen)
    if (!seen.isMissing) files.add(seen.file)
  }
  port1.on("message", see)
  port1.unref()
  installHooks(port2)
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      watching.close()
      port1.close()
    })
  )
  const settled: Effect.Effect<void> = Effect.suspend(() =>
    Effect.flatMap(Effect.timeoutOption(Queue.take(changes), rest), (more) =>
      more._tag === "Some" ? settled : Effect.void
    )
  )
  return {
    saved: Effect.zipRight(Queue.take(changes), settled),
    file: (path) => watching.see({ file: path, at: Date.now(), isMissing: !existsSync(path) }),
    read: () => {
      // What was read last may not have come here yet.
      for (let next = receiveMessageOnPort(port1); next !== undefined; next = receiveMessageOnPort(port1))
        see(next.message as SeenFile)
      const read = [...files].reverse()
      files.clear()
      return read
    }
  }
})
