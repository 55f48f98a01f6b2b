import { loadDriver } from "../../../src/layers/store/sqliteDriver.js"

/**
 * Runs statements on a database file nobody has open; gives the rows of the last one. What only changes is run without a
 * statement of ours: the driver of older Nodes collects the whole heap for one before it closes, which takes longer than all else.
 */
export const statements = async (
  filename: string,
  ...texts: ReadonlyArray<string>
): Promise<ReadonlyArray<Record<string, unknown>>> => {
  const database = (await loadDriver()).open(filename)
  try {
    let rows: ReadonlyArray<object> = []
    for (const text of texts) {
      const asks = /^\s*(SELECT|PRAGMA \w+$)/i.test(text)
      if (asks) rows = database.prepare(text).all([])
      else database.exec(text)
    }
    return rows as ReadonlyArray<Record<string, unknown>>
  } finally {
    await database.close()
  }
}
