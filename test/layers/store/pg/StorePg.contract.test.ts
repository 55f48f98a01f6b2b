import { afterAll, describe, it } from "vitest"
import { missing } from "../../../testing/Postgres.js"
import { newsSuite } from "../news.suite.js"
import { suite } from "../Store.suite.js"
import { makeStores } from "./layers.js"

const stores = makeStores()
afterAll(stores.drop)

if (missing === undefined) {
  suite("Postgres", stores.layer())
  newsSuite("Postgres", stores.layer())
} else describe.skip(`Store: Postgres (${missing})`, () => it("is skipped", () => undefined))
