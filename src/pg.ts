/** Runtimes on Postgres. Needs the package `pg`. */

export * as StorePg from "./public/StorePg.js"
