/**
 * Who holds a saved session: at most one client that is alive. A tab that was duplicated has a copy of what was saved, and a
 * second process may find the same file; whoever comes second is told, and takes a session of its own.
 *
 * Three things say that somebody else is alive: a lock of the browser on the session, this process's own list, and an
 * owner beside what is saved, whose process is looked for. None of them outlives a process that crashed.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Check from "../../protocol/Check.js"
import type { StateStore } from "./ClientState.js"

/** Who saves under a key. */
interface Owner {
  /** A random text. */
  readonly id: string
  /** Epoch milliseconds. */
  readonly since: number
  readonly pid?: number | undefined
  /** When that process was started, in terms of this boot of the machine; where that can be found out. */
  readonly started?: string | undefined
}

/** The place of one client in a store. */
export interface Place {
  /** Becomes the owner; returns whether nobody else that is alive was. What is saved is read after this. */
  readonly take: Effect.Effect<boolean>
  /** Returns whether nobody else became the owner at the same time; waits for those that have looked before it was this. */
  readonly settled: Effect.Effect<boolean>
  /** Holds a session from now on, in place of the one before; returns whether nobody else that is alive has it. */
  readonly hold: (sessionId: string) => Effect.Effect<boolean>
  /** Returns whether nobody else has become the owner since. */
  readonly isMine: Effect.Effect<boolean>
}

/** Milliseconds that a lock is waited for: a page that is loaded anew meets the end of the one before. */
const patience = 1_000

/** Milliseconds between another process's look at the owner and its becoming that, at most; stores take long only when they are far. */
const settling = 100

/** Owners and sessions of this process's clients. */
const heldHere = new Set<string>()

const process = globalThis.process as Partial<NodeJS.Process> | undefined

const attempt = <A>(read: () => A | undefined): A | undefined => {
  try {
    return read()
  } catch {
    return undefined
  }
}

/** Returns when a process was started, as Linux tells; two of one number are told apart by it. */
export const startOf = (pid: number): string | undefined =>
  attempt(() => {
    const fs = process?.getBuiltinModule?.("node:fs")
    const stat = fs?.readFileSync(`/proc/${pid}/stat`, "utf8")
    const boot = fs?.readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()
    // The name of the program, in parentheses, may have spaces.
    const since = stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[19]
    return since === undefined ? undefined : `${boot}/${since}`
  })

/** Returns when the machine was started, in epoch milliseconds. */
const bootedAt = (now: number): number =>
  now - (attempt(() => process?.getBuiltinModule?.("node:os").uptime()) ?? now / 1000) * 1000

const isRunning = (pid: number): boolean => {
  try {
    return process?.kill?.(pid, 0) === true
  } catch (error) {
    // It is there, and somebody else's.
    return error instanceof Error && "code" in error && error.code === "EPERM"
  }
}

const isAlive = ({ id, pid, since, started }: Owner, now: number): boolean =>
  heldHere.has(id) ||
  // Of this process's number, and not on its list: of one before it, in a container for example.
  (pid !== undefined &&
    pid !== process?.pid &&
    since >= bootedAt(now) &&
    isRunning(pid) &&
    started === startOf(pid))

/** An owner as it was noted. A number that is none of a process would say of another, or of all of them, that it is there. */
const ownerCheck = Check.object<Owner>({
  id: Check.text,
  since: Check.number(() => true),
  pid: Check.optional(Check.number((pid) => Number.isInteger(pid) && pid > 0)),
  started: Check.optional(Check.string)
})

/** What is no owner has none that is alive. */
const parsed = (text: string): Owner | undefined => attempt(() => ownerCheck(JSON.parse(text), "owner"))

const noLocks = "the browser gives no lock here: other tabs could use the same saved session"

/** Takes a lock of the browser; gives what releases it, or nothing when somebody else has it. */
const lock = (locks: LockManager, name: string): Effect.Effect<(() => void) | undefined> =>
  Effect.async((resume) => {
    const waiting = new AbortController()
    const timer = setTimeout(() => waiting.abort(), patience)
    const held = () =>
      new Promise<void>((release) => {
        clearTimeout(timer)
        resume(Effect.succeed(release))
      })
    locks.request(name, { signal: waiting.signal }, held).catch((cause: unknown) => {
      clearTimeout(timer)
      // Nobody has it: this page may take none, and goes on as where there are none.
      const refused = Effect.as(Effect.logWarning(noLocks, cause), () => {})
      resume(waiting.signal.aborted ? Effect.succeed(undefined) : refused)
    })
  })

/** Holds sessions, one at a time. */
const holder = () => {
  const locks = attempt(() => globalThis.navigator?.locks)
  let release = () => {}
  const hold = (sessionId: string): Effect.Effect<boolean> =>
    Effect.suspend(() => {
      const name = `arcp ${sessionId}`
      if (heldHere.has(name)) return Effect.succeed(false)
      heldHere.add(name)
      return Effect.map(locks === undefined ? Effect.succeed(() => {}) : lock(locks, name), (unlock) => {
        if (!unlock) {
          heldHere.delete(name)
          return false
        }
        release()
        release = () => {
          heldHere.delete(name)
          unlock()
        }
        return true
      })
    })
  // A lock that is given after whoever asked has gone would be held for the life of the page; it is waited for a second at most.
  return {
    hold: (sessionId: string) => Effect.uninterruptible(hold(sessionId)),
    release: Effect.sync(() => release())
  }
}

/**
 * Returns the place of a client in a store, which it leaves with the scope. `copied`: a store of its own, of which there may
 * be copies; else whoever uses it is the owner of what is saved under `key`, which is noted as `KEY.owner`.
 */
export const make = (
  store: StateStore,
  key: string,
  copied: boolean
): Effect.Effect<Place, never, Scope.Scope> =>
  Effect.gen(function* () {
    const clock = yield* Effect.clock
    const pid = process?.pid
    const self: Owner = {
      id: crypto.randomUUID(),
      since: clock.unsafeCurrentTimeMillis(),
      pid,
      started: pid === undefined ? undefined : startOf(pid)
    }
    const sessions = holder()
    const owner = Effect.map(
      Effect.orElseSucceed(store.get(`${key}.owner`), () => Option.none<string>()),
      (text) => (Option.isNone(text) ? undefined : parsed(text.value))
    )
    const note = (text: string) => (copied ? Effect.void : Effect.ignore(store.set(`${key}.owner`, text)))
    const isMine = copied
      ? Effect.succeed(true)
      : Effect.map(owner, (noted) => noted === undefined || noted.id === self.id)

    yield* Effect.addFinalizer(() =>
      isMine.pipe(
        Effect.flatMap((mine) => (mine ? note("") : Effect.void)),
        Effect.zipRight(sessions.release),
        Effect.zipRight(Effect.sync(() => heldHere.delete(self.id)))
      )
    )
    return {
      take: Effect.gen(function* () {
        const noted = copied ? undefined : yield* owner
        if (noted !== undefined && isAlive(noted, clock.unsafeCurrentTimeMillis())) return false
        heldHere.add(self.id)
        yield* note(JSON.stringify(self))
        return true
      }),
      // Pages have locks for that. Time that is simulated does not wait for other processes.
      settled:
        copied || pid === undefined
          ? isMine
          : Effect.zipRight(
              Effect.async<void>((resume) => {
                setTimeout(() => resume(Effect.void), settling)
              }),
              isMine
            ),
      hold: sessions.hold,
      isMine
    }
  })
