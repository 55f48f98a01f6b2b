/** Paths as text. Nothing here asks a file system. */

/** Links that are followed on the way of one path. */
export const maxLinks = 40

export const join = (directory: string, name: string): string =>
  name === "." || name === "" ? directory : directory === "/" ? `/${name}` : `${directory}/${name}`

export const dirname = (path: string): string => path.slice(0, Math.max(1, path.lastIndexOf("/")))
export const basename = (path: string): string => path.slice(path.lastIndexOf("/") + 1)

/** Returns the names of a path, without those that lead nowhere. */
export const segments = (path: string): ReadonlyArray<string> =>
  path.split("/").filter((name) => name !== "" && name !== ".")

/**
 * Returns where a link's text leads from its real directory, as far as the text tells. Nothing when a `..` stands
 * after a name: where that leads depends on what the name is.
 */
export const leadsTo = (directory: string, text: string): string | undefined => {
  const names = [...segments(text)]
  const path = text.startsWith("/") ? [] : [...segments(directory)]
  while (names[0] === "..") {
    names.shift()
    path.pop()
  }
  return names.includes("..") ? undefined : `/${[...path, ...names].join("/")}`
}
