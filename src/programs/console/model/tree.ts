/** Looking into values of any size, a little in each frame. */

const known = new WeakMap<object, ReadonlyArray<string>>()

/** Returns the names of the members of an object: of a million of them that takes half a second, so it is done once. */
export const namesOf = (value: object): ReadonlyArray<string> => {
  const found = known.get(value)
  if (found !== undefined) return found
  const names = Object.keys(value)
  known.set(value, names)
  return names
}

/** Members that are shown at first of all that is below a value, beside its own. */
const mostAtFirst = 200

/** Returns how many members a part may have that is open at first, of a value of `size` of which `shown` are shown. */
export const openAtFirst = (size: number, shown: number): number =>
  Math.floor(mostAtFirst / Math.max(1, Math.min(size, shown)))

/** Work that is done in a share of each frame; whoever comes too late for one is called in the next. */
export class Shares {
  #used = 0
  #isWaiting = false
  readonly #late = new Set<() => void>()

  constructor(
    private readonly share: number,
    /** Milliseconds. */
    private readonly now: () => number,
    private readonly nextFrame: (begin: () => void) => void
  ) {}

  /** Works, if there is some of the share left; else calls `again` in a later frame. One piece is done whatever it takes. */
  run<A>(work: () => A, again: () => void): A | undefined {
    this.#wait()
    if (this.#used >= this.share) {
      this.#late.add(again)
      return undefined
    }
    const since = this.now()
    const done = work()
    this.#used += this.now() - since
    return done
  }

  #wait(): void {
    if (this.#isWaiting) return
    this.#isWaiting = true
    this.nextFrame(() => {
      this.#isWaiting = false
      this.#used = 0
      const late = [...this.#late]
      this.#late.clear()
      for (const again of late) again()
    })
  }
}
