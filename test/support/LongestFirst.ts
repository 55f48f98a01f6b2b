/** In which order files run: the longest first, so that at the end no core is idle while the other has a long one to itself. */
import { BaseSequencer, type TestSpecification } from "vitest/node"

/** Files that take longer than their size tells: they wait for processes and stores, or run suites that are elsewhere. */
const long: ReadonlyArray<string> = [
  "browser/console",
  "programs/serve",
  "e2e/cluster",
  "layers/log/Retention",
  "layers/log/Forgetting",
  "layers/log/EventLog",
  "layers/log/EventLogPg",
  "layers/log/Views",
  "layers/store/StoreSqlite",
  "layers/lease/LeasedFileSystem.races",
  "layers/lease/Authority",
  "layers/log/Pipelining",
  "e2e/postgres",
  "layers/store/pg/schemas",
  "programs/damaged",
  "e2e/windows",
  "e2e/credentials-revoked",
  "e2e/many-drops",
  "layers/jobs/Inputs"
]
const places = new Map(long.map((name, place) => [name, place]))

const placeOf = ({ moduleId }: TestSpecification): number =>
  places.get(/\/test\/(.*)\.test\.ts$/.exec(moduleId)?.[1] ?? "") ?? long.length

export default class LongestFirst extends BaseSequencer {
  override async sort(files: Array<TestSpecification>): Promise<Array<TestSpecification>> {
    return (await super.sort(files)).sort((a, b) => placeOf(a) - placeOf(b))
  }
}
