/** Reading in pages: a page that leads no further would be read again for ever, so it is a defect. */

/** Returns the number that a reader goes on from after a page; throws when that is not beyond where the page began. */
export const onward = (from: number, next: number): number => {
  if (next > from) return next
  throw new Error(`a page that began at ${from} goes on at ${next}, and would be read for ever`)
}
