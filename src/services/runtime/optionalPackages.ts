/**
 * Packages that only parts of this one need. They are its optional dependencies: installed like any other, unless
 * `--omit=optional` leaves them out for who wants the client alone. So they are imported where they are used, and what is
 * missing is said in a sentence.
 */

/** Which versions are asked for, as in package.json. */
export const optionalPackages = {
  "@effect/platform-node": "0.108",
  "@effect/sql": "0.52",
  "@photostructure/sqlite": "1.2",
  ignore: "7",
  jose: "6"
} as const

/** A package that a part of this one needs, and that an install may leave out. */
export type OptionalPackage = keyof typeof optionalPackages

/**
 * Returns the sentence that says what to do when `error`, which an import for `part` failed with, is that the package or
 * one that it needs is not there; `undefined` of any other error.
 */
export const whatIsMissing = (part: string, name: OptionalPackage, error: unknown): string | undefined =>
  typeof error === "object" && error !== null && "code" in error && error.code === "ERR_MODULE_NOT_FOUND"
    ? `${part} needs ${name}, which is not installed here: npm i ${name}@${optionalPackages[name]}, or install ` +
      "everything, without --omit=optional"
    : undefined
