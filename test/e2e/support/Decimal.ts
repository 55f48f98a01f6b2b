/** Decimals as scaled integers: what a ledger may be checked with. */
const places = 40

/** `"0.10"`, `5` or `1e-18` as a whole number of 10^-40. A number counts as its shortest decimal. */
export const exact = (value: unknown): bigint => {
  const match = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(String(value))
  if (match === null) throw new Error(`${JSON.stringify(value)} is not a decimal`)
  const [, sign, whole = "", fraction = "", exponent = "0"] = match
  const shift = places - fraction.length + Number(exponent)
  if (shift < 0) throw new Error(`${value} has more digits than this can hold`)
  const magnitude = BigInt(whole + fraction) * 10n ** BigInt(shift)
  return sign === "-" ? -magnitude : magnitude
}

export const total = (values: ReadonlyArray<unknown>): bigint =>
  values.reduce<bigint>((sum, value) => sum + exact(value), 0n)

/** For messages and `toBe`: a bigint that a person can read. */
export const text = (value: bigint): string => {
  const digits = (value < 0n ? -value : value).toString().padStart(places + 1, "0")
  const fraction = digits.slice(-places).replace(/0+$/, "")
  return `${value < 0n ? "-" : ""}${digits.slice(0, -places)}${fraction === "" ? "" : `.${fraction}`}`
}
