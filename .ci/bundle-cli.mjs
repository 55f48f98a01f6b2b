// The program `arcp` in few files, with Effect and what else it needs inside: a start is a fraction of what it is when each
// of 800 modules is found and read by itself. Native modules stay outside, and what only modules of the user's can need;
// for those the program loads what was compiled, see src/programs/cli/program.ts.
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { join, relative } from "node:path"
import { rolldown } from "rolldown"

const folder = "dist/programs/bundle"
/** Left where it is compiled to. */
const apart = "dist/layers/lease/HttpClientPublic.js"

/** The folder of the package that a module is of. */
const folderOf = (id) => /^.*\/node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(id)?.[0]

const bundle = await rolldown({
  input: { program: "dist/programs/cli/program.js" },
  platform: "node",
  plugins: [
    {
      name: "native",
      async resolveId(source, importer) {
        if (importer === undefined || /^([./]|node:)/.test(source)) return null
        const resolved = await this.resolve(source, importer, { skipSelf: true })
        const isNative =
          resolved !== null &&
          ["binding.gyp", "prebuilds"].some((name) => existsSync(join(folderOf(resolved.id) ?? "", name)))
        return isNative ? { id: source, external: true } : resolved
      }
    },
    {
      name: "apart",
      resolveId: (id) =>
        id.endsWith("/HttpClientPublic.js") ? { id: relative(folder, apart), external: true } : null
    }
  ],
  onLog: (level, log) => {
    // ws asks for what makes it faster, and does without.
    if (level === "warn" && !/bufferutil|utf-8-validate/.test(log.message)) throw new Error(log.message)
  }
})
const { output } = await bundle.write({
  dir: folder,
  cleanDir: true,
  format: "es",
  comments: false,
  // Names and lines stay, for stack traces.
  minify: { compress: true, mangle: false, codegen: { removeWhitespace: false } },
  topLevelVar: true,
  // What every command needs is one file, and not one for each set of commands that share it; a group takes with it what it
  // depends on.
  codeSplitting: {
    groups: [
      { name: "words", test: /programs\/cli\/(parse|said)\.js$/, priority: 2 },
      { name: "start", test: /programs\/cli\/start\.js$/, priority: 1 }
    ]
  },
  entryFileNames: "[name].js",
  chunkFileNames: "[name]-[hash].js"
})
await bundle.close()

/** The folders of packages that are inside, as paths from the root. */
const packages = new Set(
  output.flatMap(({ modules = {} }) => Object.keys(modules).flatMap((id) => folderOf(id) ?? []))
)
const notices = [...packages].sort().map((path) => {
  const { name, version, license } = JSON.parse(readFileSync(join(path, "package.json"), "utf8"))
  const file = readdirSync(path).find((name) => /^licen[cs]e/i.test(name))
  const text = file === undefined ? `${license}\n` : readFileSync(join(path, file), "utf8")
  return `${name} ${version}\n\n${text.trim()}\n`
})
writeFileSync(`${folder}/NOTICES.txt`, notices.join(`\n${"-".repeat(72)}\n\n`))
if (!existsSync(apart)) throw new Error(`${apart} was not compiled`)

const bytes = output.reduce((sum, { code }) => sum + code.length, 0)
console.log(`${folder}: ${output.length} files, ${(bytes / 1e6).toFixed(1)} MB, ${packages.size} packages`)
