/** `arcp backup` and `arcp restore`: copies of a runtime's file, and putting one in its place again. */
import * as Command from "./Command.js"
import { logLevel } from "./client-flags.js"
import { dbFlag, jsonFlag } from "./db-flags.js"
import * as Flags from "./Flags.js"
import { pgFlag } from "./pg-flag.js"

const common = { db: dbFlag("also while that runs"), pg: pgFlag, json: jsonFlag, logLevel }

const backupFlags = {
  ...common,
  force: Flags.boolean("force").pipe(
    Flags.withDescription("in place of a file that has the name, and of its credentials")
  )
}
export type BackupFlags = Flags.Values<typeof backupFlags>

export const backup = Command.make(
  {
    name: "backup",
    summary: "Copy the file of a runtime, also while it runs",
    arguments: [{ name: "FILE", description: "the file that is to be made", optional: false }],
    flags: backupFlags,
    examples: ["arcp backup /backup/arcp-monday.db", "arcp backup arcp.bak --db .arcp/arcp.db --force"],
    more: {
      "What is made": [
        "One file, whole and on disk before it has the name, readable by its owner",
        "only (0600); a link of that name is not followed. Beside it FILE.credentials,",
        "when the runtime provisions credentials: which there are, never the secrets."
      ],
      "Exit codes": ["0 it is made   1 it is not, and nothing has the name   2 a mistake"]
    }
  },
  () => import("./run/backup.js")
)

const restoreFlags = { ...common, db: dbFlag("which must not run") }
export type RestoreFlags = Flags.Values<typeof restoreFlags>

export const restore = Command.make(
  {
    name: "restore",
    summary: "Put a backup in the place of the file of a runtime, which is kept aside",
    arguments: [{ name: "FILE", description: "what arcp backup has made", optional: false }],
    flags: restoreFlags,
    examples: ["arcp restore /backup/arcp-monday.db", "arcp restore arcp.bak --db .arcp/arcp.db"],
    more: {
      "What it does": [
        "Refused while a runtime has the file. The backup is copied, checked, brought",
        "to the current schema before anything changes; what was there is kept beside",
        "it as FILE.before-TIME. All sessions end: what they were sent since the backup",
        "is not in it. Records of credentials that are there stay, they are the newer."
      ],
      "Exit codes": ["0 it is restored   1 it is not, and all is as it was   2 a mistake"]
    }
  },
  () => import("./run/restore.js")
)
