import { readFileSync } from "node:fs"
import { packageFile } from "./cli/packageFile.js"

/** The version of this package. */
export const version: string = (
  JSON.parse(readFileSync(packageFile("package.json"), "utf8")) as { version: string }
).version
