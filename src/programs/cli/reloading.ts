/** Watches the files that modules of the user's are made of, and has them loaded anew. */
import { type FSWatcher, watch } from "node:fs"
import * as NodeModule from "node:module"
import { basename, dirname } from "node:path"
import { MessageChannel } from "node:worker_threads"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import { packageFile } from "./packageFile.js"

/** Files that are watched. */
export interface Watched {
  /** Waits until one of the files was saved, and whoever saves has come to rest. */
  readonly saved: Effect.Effect<void>
}

/** Time in which a save is followed by others, of an editor or a compiler. */
const rest = "80 millis"

/** Installs the hooks, for good: Node keeps them as long as the process; and watches what they see for the scope. */
export const watched: Effect.Effect<Watched, never, Scope.Scope> = Effect.gen(function* () {
  const changes = yield* Queue.sliding<void>(1)
  const files = new Map<string, Set<string>>()
  const watchers: Array<FSWatcher> = []
  const seen = (file: string) => {
    const folder = dirname(file)
    const names = files.get(folder)
    if (names !== undefined) {
      names.add(basename(file))
      return
    }
    files.set(folder, new Set([basename(file)]))
    // The folder, and not the file: editors write another file and give it the name.
    const watcher = watch(folder, (_, name) => {
      if (name === null || files.get(folder)?.has(name) === true) changes.unsafeOffer(undefined)
    })
    watcher.on("error", () => watcher.close())
    watcher.unref()
    watchers.push(watcher)
  }
  const { port1, port2 } = new MessageChannel()
  port1.on("message", (file: string) => seen(file))
  port1.unref()
  NodeModule.register(packageFile("dist/programs/cli/reloadHooks.js"), {
    data: { port: port2 },
    transferList: [port2]
  })
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      for (const watcher of watchers) watcher.close()
      port1.close()
    })
  )
  const settled: Effect.Effect<void> = Effect.suspend(() =>
    Effect.flatMap(Effect.timeoutOption(Queue.take(changes), rest), (more) =>
      more._tag === "Some" ? settled : Effect.void
    )
  )
  return { saved: Effect.zipRight(Queue.take(changes), settled) }
})
