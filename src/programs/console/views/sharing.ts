/** Looking into values of any size while the page is drawn: as much as a frame has time for, and the rest in later ones. */
import { useRef, useState } from "preact/hooks"
import { Shares } from "../model/tree.js"

/** Milliseconds of a frame in which values are looked at. */
const shares = new Shares(
  8,
  () => performance.now(),
  (begin) => requestAnimationFrame(begin)
)

/** Returns what `look` says of a value, `undefined` as long as other parts have their turn. */
export const useShare = <A>(value: unknown, look: () => A): A | undefined => {
  const [turn, again] = useState(0)
  const done = useRef<{ readonly of: unknown; readonly said: A } | undefined>(undefined)
  if (done.current === undefined || done.current.of !== value)
    done.current = shares.run(
      () => ({ of: value, said: look() }),
      () => again(turn + 1)
    )
  return done.current?.said
}
