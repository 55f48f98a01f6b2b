/** In which order files run: the longest first, so that at the end no core is idle while the other has a long one to itself. */
import { BaseSequencer, type TestSpecification } from "vitest/node"

/** Files that take longer than their size tells: they wait for processes and stores, or run suites that are elsewhere. */
const long: ReadonlyArray<string> = [
  // It weighs what is in use, which takes four times as long once other files have filled the heap.
  "layers/session/Leaks",
  // So does a close of SQLite's substitute, which collects what is in use (Node before 22.16), and these close hundreds of times.
  "layers/store/schemas",
  "layers/store/StoreSqlite",
  "layers/store/care/backup",
  "layers/credentials/CredentialStore",
  "layers/store/StoreSql",
  "layers/store/sqliteDriver",
  "layers/store/sqliteThread",
  "layers/store/damaged",
  "layers/session/Room",
  "browser/console",
  "e2e/cluster",
  "programs/serve",
  "e2e/postgres",
  "layers/lease/LeasedFileSystem.races",
  "programs/nginx",
  "layers/store/pg/schemas",
  "layers/store/pg/StorePg.contract",
  "browser/demo",
  "e2e/windows",
  "e2e/many-drops",
  "e2e/credentials-revoked",
  "programs/damaged",
  "programs/cli/lost",
  "programs/cli/care",
  "layers/log/EventLogPg",
  "layers/log/Retention",
  "layers/session/Expiry",
  "layers/log/Forgetting",
  "layers/log/Views",
  "layers/log/Pipelining",
  "layers/jobs/Inputs",
  "layers/lease/Authority"
]
const places = new Map(long.map((name, place) => [name, place]))

const placeOf = ({ moduleId }: TestSpecification): number =>
  places.get(/\/test\/(.*)\.test\.ts$/.exec(moduleId)?.[1] ?? "") ?? long.length

export default class LongestFirst extends BaseSequencer {
  override async sort(files: Array<TestSpecification>): Promise<Array<TestSpecification>> {
    return (await super.sort(files)).sort((a, b) => placeOf(a) - placeOf(b))
  }
}
