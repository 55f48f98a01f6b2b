import * as StoreMemory from "../../../src/layers/store/StoreMemory.js"
import { sqlite } from "./sqlite.js"
import { suite } from "./Taken.suite.js"

suite("a store in memory", StoreMemory.layer)
suite("a SQLite file", sqlite)
