/**
 * `effect-arcp/testing`: test your own agents and clients without a socket, a disk or a wait. For any test runner;
 * no Node built-ins.
 *
 * - `TestRuntime`: the real runtime, in memory, with a client; its clock is the test's, and its process dies at any commit
 * - `Faults`: a transport that drops, delays, cuts, loses and repeats what you tell it to
 * - `ScriptedRuntime`: a runtime that says what the test says, for testing clients
 * - `Check`: checks of event streams, that say what was expected and what came
 */
export * as Check from "./testing/Check.js"
export * as Faults from "./testing/Faults.js"
export * as ScriptedRuntime from "./testing/ScriptedRuntime.js"
export * as TestRuntime from "./testing/TestRuntime.js"
