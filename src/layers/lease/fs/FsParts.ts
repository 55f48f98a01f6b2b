/** What the operations of a leased file system share. */
import type * as FileSystem from "@effect/platform/FileSystem"
import type { Authority } from "./Authority.js"
import type { Files } from "./Files.js"
import type { Places } from "./Places.js"

/** What every operation of a leased file system works on. */
export interface FsParts {
  /** The operator's file system, which asks nobody. */
  readonly open: FileSystem.FileSystem
  readonly authority: Authority
  /** The authority to remove what was temporary. */
  readonly cleaning: Authority
  readonly places: Places
  readonly files: Files
}
