import { afterAll, describe, it } from "vitest"
import { missing } from "../../testing/Postgres.js"
import { makeStores } from "../store/pg/layers.js"
import { suite } from "./EventLog.suite.js"
import { suite as historySuite } from "./History.suite.js"
import { suite as sequencerSuite } from "./Sequencer.suite.js"
import { suite as streamedSuite } from "./StreamedResult.suite.js"
import { suite as takenSuite } from "./Taken.suite.js"

const stores = makeStores()
afterAll(stores.drop)

if (missing === undefined) {
  suite("EventLog on Postgres", 1, stores.layer)
  historySuite("on Postgres", stores.layer)
  streamedSuite("on Postgres", stores.layer)
  takenSuite("a store in Postgres", stores.layer)
  sequencerSuite("Postgres", 1, stores.layer)
} else describe.skip(`EventLog on Postgres (${missing})`, () => it("is skipped", () => undefined))
