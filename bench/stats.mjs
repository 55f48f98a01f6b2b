/** Medians and percentiles. */

const ascending = (values) => Float64Array.from(values).sort()

export const median = (values) => {
  const sorted = ascending(values)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/** Nearest-rank percentiles of samples in milliseconds. */
export const percentiles = (samples) => {
  const sorted = ascending(samples)
  const at = (p) => sorted[Math.max(0, Math.ceil(p * sorted.length) - 1)]
  return { p50: at(0.5), p99: at(0.99), max: sorted[sorted.length - 1], samples: sorted.length }
}
