/** Runtimes on Postgres. Needs the package `pg`. */

export * as RuntimeCluster from "./public/RuntimeCluster.js"
export * as StorePg from "./public/StorePg.js"
