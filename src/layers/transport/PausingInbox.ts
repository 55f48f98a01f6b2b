/** The inbound side of a transport that can stop reading its source. */
import type { Inbound } from "../../services/transport/Transport.js"
import { Inbox } from "./Inbox.js"

/** Frames and bytes held before the source is paused. */
const maxHeldFrames = 256
const maxHeldBytes = 1024 * 1024

/**
 * Above its marks the peer is not read. Full means that the source is paused, not that frames are lost: what it still had
 * decoded at that moment is taken in as well.
 */
export class PausingInbox extends Inbox {
  #frames = 0
  paused = false

  readonly #source: { readonly pause: () => void; readonly resume: () => void }

  constructor(source: { readonly pause: () => void; readonly resume: () => void }) {
    super()
    this.#source = source
  }

  override offer(frame: Inbound, bytes: number): void {
    super.offer(frame, bytes)
    if (this.ended || this.paused) return
    this.#frames++
    if (this.#frames < maxHeldFrames && this.held < maxHeldBytes) return
    this.paused = true
    this.#source.pause()
  }

  protected override taken(): void {
    super.taken()
    this.#frames = 0
    if (!this.paused) return
    this.paused = false
    this.#source.resume()
  }
}
