// The script of the console in one file, next to what it was compiled from; the files that are not compiled; and what all of
// it costs a browser, which has a limit.
import { copyFileSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { gzipSync } from "node:zlib"
import { rolldown } from "rolldown"

/** Bytes of the whole console, compressed. */
const limit = 150_000

const folder = "dist/programs/console"
const script = `${folder}/page.bundle.js`
for (const name of ["index.html", "page.css"])
  copyFileSync(`src/programs/console/${name}`, `${folder}/${name}`)
const bundle = await rolldown({
  input: `${folder}/page.js`,
  platform: "browser",
  // What takes long on a busy machine is no fault of what is bundled.
  checks: { bundlerTimings: false },
  // Node's modules, for example, which a page cannot have.
  onLog: (_, log) => {
    throw new Error(log.message)
  }
})
const { output } = await bundle.write({ file: script, format: "es", minify: true })
await bundle.close()

/** The licences of what is inside, as they ask for. */
const packages = new Set(
  output.flatMap(({ modules = {} }) =>
    Object.keys(modules).flatMap((id) => /^.*\/node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(id)?.[0] ?? [])
  )
)
const notices = [...packages].sort().map((path) => {
  const { name, version } = JSON.parse(readFileSync(`${path}/package.json`, "utf8"))
  return `${name} ${version}\n\n${readFileSync(`${path}/LICENSE`, "utf8").trim()}\n`
})
writeFileSync(`${folder}/NOTICES.txt`, notices.join(`\n${"-".repeat(72)}\n\n`))

const size = [script, `${folder}/index.html`, `${folder}/page.css`]
  .map((file) => gzipSync(readFileSync(file), { level: 9 }).length)
  .reduce((a, b) => a + b)
console.log(`${folder}: ${size} bytes compressed, of at most ${limit}`)
if (size > limit) {
  rmSync(script)
  throw new Error(`the console is too big: ${size} bytes compressed, at most ${limit}`)
}
