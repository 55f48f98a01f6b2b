import * as StoreMemory from "../../../src/layers/store/StoreMemory.js"
import { suite } from "./Sequencer.suite.js"
import { sqlite } from "./sqlite.js"

suite("a store in memory", 16, StoreMemory.layer)
suite("SQLite", 1, sqlite)
