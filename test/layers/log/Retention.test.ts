import * as StoreMemory from "../../../src/layers/store/StoreMemory.js"
import { suite } from "./Retention.suite.js"
import { sqlite } from "./sqlite.js"

suite("retention in memory", 16, () => StoreMemory.layer)
suite("retention on SQLite", 1, sqlite)
