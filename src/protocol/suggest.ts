/** "Did you mean": the nearest of some names. */

/** How many letters were left out, added, exchanged or swapped with their neighbour. */
const distance = (a: string, b: string): number => {
  let before: Array<number> = []
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1]
      const at = (cells: ReadonlyArray<number>, k: number) => cells[k] ?? Number.POSITIVE_INFINITY
      let best = Math.min(at(row, j) + 1, at(next, j - 1) + 1, at(row, j - 1) + (same ? 0 : 1))
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        best = Math.min(best, at(before, j - 2) + 1)
      next.push(best)
    }
    before = row
    row = next
  }
  return row[b.length] ?? 0
}

/** Whether a name is some letters of a longer word, its first one with them: `rm` of `remove`. */
const abbreviates = (name: string, word: string): boolean => {
  if (name.length < 2 || word.length <= name.length || name[0] !== word[0]) return false
  let at = 0
  for (const letter of word) if (letter === name[at]) at++
  return at === name.length
}

/** Returns the name that was probably meant, or `undefined`. */
export const nearest = (given: string, names: ReadonlyArray<string>): string | undefined => {
  const short = given.slice(0, 64).toLowerCase()
  const letters = short.replace(/^-+/, "")
  const started = names.filter((name) => letters.length >= 3 && name.replace(/^-+/, "").startsWith(letters))
  if (started.length === 1) return started[0]
  const abbreviations = names.filter((name) => name.length <= 3 && abbreviates(name, letters))
  if (abbreviations.length === 1) return abbreviations[0]
  const [best] = names.map((name) => [distance(short, name), name] as const).sort(([a], [b]) => a - b)
  return best !== undefined && best[0] <= Math.max(1, Math.floor(letters.length / 3)) ? best[1] : undefined
}

/** `; did you mean X?`, or nothing. */
export const didYouMean = (given: string, names: ReadonlyArray<string>): string => {
  const name = nearest(given, names)
  return name === undefined ? "" : `; did you mean ${name}?`
}
