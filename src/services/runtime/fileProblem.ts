/** What is the matter with a file that a user named, in words. */

const words: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file",
  ENOTDIR: "a part of its path is a file, and no directory",
  EISDIR: "it is a directory",
  EEXIST: "there is a file of this name",
  EACCES: "there is no permission",
  EPERM: "there is no permission",
  EROFS: "the file system is read-only",
  ELOOP: "its links lead in a circle",
  ENAMETOOLONG: "its name is too long",
  ENOSPC: "the disk is full",
  EDQUOT: "the disk quota is used up",
  EMFILE: "too many files are open"
}

/** Returns the code that the system has for what failed, such as `ENOENT`. */
export const codeOf = (error: unknown): string | undefined =>
  typeof error === "object" && error !== null && "code" in error && typeof error.code === "string"
    ? error.code
    : undefined

/**
 * Returns what an operation on a file failed with, as part of a sentence: in words, with the code that the system has for it.
 * Of an error of the platform's file system its cause says that.
 */
export const fileProblem = (error: unknown): string => {
  const code = codeOf(error)
  if (code !== undefined && code in words) return `${words[code]} (${code})`
  if (!(error instanceof Error)) return String(error)
  return error.cause instanceof Error ? fileProblem(error.cause) : error.message
}
