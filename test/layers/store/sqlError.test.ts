/** What a database that fails means to people, by what drivers say of it. */
import { assert, describe, it } from "vitest"
import { isOfDisk, toStoreError } from "../../../src/layers/store/sqlError.js"

const failed = (code: string) => Object.assign(new Error("as the driver says it"), { code })

describe("a database that fails", () => {
  it.each([
    ["SQLITE_FULL", /the disk is full: free space where arcp\.db is stored/, true],
    ["ENOSPC", /the disk is full/, true],
    // What SQLite says when it is opened on a full disk, where it has no room for its shared memory.
    ["SQLITE_IOERR_SHMSIZE", /its disk is full, or broken; see whether there is room/, true],
    ["SQLITE_CORRUPT", /is corrupt; restore it from a backup/, false],
    ["SQLITE_BUSY", /is locked by another program/, false]
  ])("with %s", (code, says, ofDisk) => {
    const wrapped = new Error("no statement", { cause: failed(code) })
    const error = toStoreError("arcp.db")(wrapped)
    assert.match(error.message, says)
    assert.strictEqual(isOfDisk(error), ofDisk)
    assert.notInclude(error.publicMessage, "arcp.db")
  })
})
