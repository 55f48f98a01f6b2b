import * as StoreMemory from "../../../src/layers/store/StoreMemory.js"
import { suite } from "./EventLog.suite.js"
import { suite as historySuite } from "./History.suite.js"
import { suite as streamedSuite } from "./StreamedResult.suite.js"
import { sqlite } from "./sqlite.js"

suite("EventLog in memory", 16, StoreMemory.layer)
suite("EventLog on SQLite", 1, sqlite)
streamedSuite("in memory", StoreMemory.layer)
streamedSuite("on SQLite", sqlite)
historySuite("in memory", StoreMemory.layer)
historySuite("on SQLite", sqlite)
