/** A web page to see the jobs of a runtime, submit some, and answer what waits. */
export { app, type Login, layer, login, type Options } from "../layers/transport/WebConsole.js"
