// What the client costs a browser: everything it needs of Effect included, bundled, minified, compressed.
//
//   npm run size
//
// Also checks that the entries for browsers need nothing of Node. The size checked is that of rolldown and terser; the
// others are what common tools make of the same module as they come.

import { spawnSync } from "node:child_process"
import { gzipSync } from "node:zlib"
import * as esbuild from "esbuild"
import { rolldown } from "rolldown"
import { minify } from "terser"

const limit = 62_300

const entry = `
export { make, layer } from "./dist/layers/client/ArcpClient.js"
export { layer as dialer } from "./dist/layers/transport/DialerWebSocketGlobal.js"
export { provide, runFork } from "effect/Effect"
export { runForEach } from "effect/Stream"
`
const size = (code) => gzipSync(code, { level: 9 }).length

const bundled = async (source, options) => {
  const bundle = await rolldown({
    input: "entry",
    platform: "browser",
    // What takes long on a busy machine is no fault of what is bundled.
    checks: { bundlerTimings: false },
    // Node's modules, for example, which a page cannot have.
    onLog: (_, log) => {
      throw new Error(log.message)
    },
    plugins: [
      {
        name: "entry",
        resolveId: (id) => (id === "entry" ? `${process.cwd()}/entry.js` : null),
        load: (id) => (id === `${process.cwd()}/entry.js` ? source : null)
      }
    ]
  })
  const { output } = await bundle.generate({ format: "es", ...options })
  await bundle.close()
  return output[0]
}

for (const name of ["index", "promise", "testing"]) {
  await bundled(`export * from "./dist/${name}.js"`)
  console.log(`dist/${name}.js: can be bundled for browsers, without Node's modules`)
}

const chunk = await bundled(entry)
const { code } = await minify(chunk.code, {
  module: true,
  ecma: 2022,
  compress: { passes: 3, pure_getters: true }
})
// Minifiers move code about: what they make of it is only worth measuring when it still is a program.
const parsed = spawnSync(process.execPath, ["--check", "--input-type=module", "-"], {
  input: code,
  encoding: "utf8"
})
if (parsed.status !== 0) throw new Error(`minified, the client is no program: ${parsed.stderr.slice(-300)}`)
const client = size(code)
const plain = await bundled(entry, { minify: true })
const es = await esbuild.build({
  stdin: { contents: entry, resolveDir: process.cwd() },
  bundle: true,
  minify: true,
  format: "esm",
  platform: "browser",
  write: false
})

const kb = (bytes) => `${(bytes / 1000).toFixed(1)} kB`
console.log(`client, rolldown and terser: ${client} bytes, of at most ${limit}`)
console.log(
  `  rolldown with its own minifier: ${kb(size(plain.code))}; esbuild: ${kb(size(es.outputFiles[0].contents))}`
)

const modules = Object.entries(chunk.modules)
  .map(([id, { renderedLength }]) => ({
    id: id.replace(/^.*node_modules\//, "").replace(`${process.cwd()}/`, ""),
    renderedLength
  }))
  .sort((a, b) => b.renderedLength - a.renderedLength)
console.log("  biggest modules, before minifying:")
for (const { id, renderedLength } of modules.slice(0, 10))
  console.log(`    ${kb(renderedLength).padStart(9)}  ${id}`)

if (client > limit) {
  console.error(`the client is too big: ${client} bytes, at most ${limit}`)
  process.exitCode = 1
}
