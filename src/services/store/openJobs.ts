/** Jobs of a principal on other nodes than the one that asks: what caps count that hold for all nodes together. */
export interface OpenJobs {
  /** That have begun and not ended, but for those that wait and are not in memory. */
  readonly running: number
  /** That are accepted and have not begun. */
  readonly pending: number
}

export const noJobs: OpenJobs = { running: 0, pending: 0 }
