/** Starts a runtime as a child process and talks to it over stdin and stdout. */
export { layer, type Options } from "../layers/transport/DialerStdio.js"
