/**
 * Returns the address of a file of this package, from its root. The bundle is as deep in the package as this folder: from
 * either it is three steps up.
 */
export const packageFile = (path: string): URL => new URL(`../../../${path}`, import.meta.url)
