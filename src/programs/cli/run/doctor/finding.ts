/** What a check comes to. */

/** One line of `arcp doctor`. */
export interface Finding {
  readonly check: string
  readonly level: "ok" | "warn" | "fail"
  readonly said: string
  /** What to do about it; of everything that is not well. */
  readonly todo?: string | undefined
}

/** Makes the findings of one check. */
export const findings = (check: string) => ({
  ok: (said: string): Finding => ({ check, level: "ok", said }),
  warn: (said: string, todo: string): Finding => ({ check, level: "warn", said, todo }),
  fail: (said: string, todo: string): Finding => ({ check, level: "fail", said, todo })
})

/** What is found about a store, and who on this machine has it, as a sentence. */
export interface StoreFindings {
  readonly found: ReadonlyArray<Finding>
  readonly holder: string | undefined
}
