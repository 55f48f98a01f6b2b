/**
 * What a server may take of each turn of the event loop by what it says, however much that is: a line or an event costs the SDK
 * some tenths of a millisecond, and thousands of them come at once.
 */
import { eventLoop, type TurnService } from "../../../services/runtime/Turn.js"

/** Milliseconds. */
const share = 5

/** The share of one server. */
export class Pace {
  private until = Number.NEGATIVE_INFINITY

  /** `now`: milliseconds that only go forward. */
  constructor(
    private readonly turn: TurnService = eventLoop,
    private readonly now: () => number = () => performance.now()
  ) {}

  /** Whether the next turn is to be waited for. */
  get isSpent(): boolean {
    return this.now() >= this.until
  }

  /** Begins a share now. */
  begin(): void {
    this.until = this.now() + share
  }

  /** Calls back on the next turn, with which a share begins. */
  onNext(callback: () => void): void {
    this.turn.onNext(() => {
      this.begin()
      callback()
    })
  }

  next(): Promise<void> {
    return new Promise((resolve) => this.onNext(resolve))
  }
}
