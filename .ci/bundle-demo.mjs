// The script of the demo page, in one file, next to what it was compiled from; and the files that are not compiled.
import { copyFileSync } from "node:fs"
import { rolldown } from "rolldown"

const folder = "dist/programs/demo"
for (const name of ["index.html", "page.css"]) copyFileSync(`src/programs/demo/${name}`, `${folder}/${name}`)
const bundle = await rolldown({ input: `${folder}/page.js`, platform: "browser" })
await bundle.write({ file: `${folder}/page.bundle.js`, format: "es", minify: true })
await bundle.close()
