// The program `arcp` in few files, with Effect and what else it needs inside: a start is a fraction of what it is when each
// of 800 modules is found and read by itself. Native modules stay outside. Twice: `bundle` has no more inside than the
// program uses; `shared` has Effect, its platform and this package whole, for modules of the user's that import them, and a
// file for each that can be imported (src/programs/cli/copies.ts).
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { join, posix } from "node:path"
import { rolldown } from "rolldown"
import { loader, scripts } from "./scripts.mjs"

const readJson = (path) => JSON.parse(readFileSync(path, "utf8"))

/** The folder of the package that a module is of. */
const folderOf = (id) => /^.*\/node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(id)?.[0]

/** What the program uses itself, of the optional peers: it is inside, so that nobody has to install it for that. */
const used = ["@effect/opentelemetry", "pg"]

/** Whoever installs without these has no part that needs them; they import Effect by name, as modules of the user's do. */
const optionalPeers = Object.keys(readJson("package.json").peerDependenciesMeta).filter(
  (name) => !used.includes(name)
)

const outside = {
  name: "outside",
  async resolveId(source, importer, { kind }) {
    if (source === "./scripts.js" && importer?.endsWith("/programs/cli/program.js"))
      return { id: loader, external: true }
    if (importer === undefined || /^([./]|node:)/.test(source)) return null
    if (optionalPeers.some((name) => source === name || source.startsWith(`${name}/`)))
      return { id: source, external: true }
    const resolved = await this.resolve(source, importer, { skipSelf: true, kind })
    const isNative =
      resolved !== null &&
      ["binding.gyp", "prebuilds"].some((name) => existsSync(join(folderOf(resolved.id) ?? "", name)))
    return isNative ? { id: source, external: true } : resolved
  }
}

/** Writes the licences of what is inside. */
const writeNotices = (folder, packages) => {
  const notices = packages.map((path) => {
    const { name, version, license } = readJson(join(path, "package.json"))
    const file = readdirSync(path).find((name) => /^licen[cs]e/i.test(name))
    const text = file === undefined ? `${license}\n` : readFileSync(join(path, file), "utf8")
    return `${name} ${version}\n\n${text.trim()}\n`
  })
  writeFileSync(`${folder}/NOTICES.txt`, notices.join(`\n${"-".repeat(72)}\n\n`))
}

/** `groups`: what is one file, and not one for each set of entries that share it; a group takes with it what it depends on. */
const bundle = async (folder, input, groups, plugins = []) => {
  const made = await rolldown({
    input,
    platform: "node",
    // What takes long on a busy machine is no fault of what is bundled.
    checks: { bundlerTimings: false },
    plugins: [outside, ...plugins, scripts],
    onLog: (level, log) => {
      // ws asks for what makes it faster, and does without.
      if (level === "warn" && !/bufferutil|utf-8-validate/.test(log.message)) throw new Error(log.message)
    }
  })
  const { output } = await made.write({
    dir: folder,
    cleanDir: true,
    format: "es",
    comments: false,
    // Names and lines stay, for stack traces.
    minify: { compress: true, mangle: false, codegen: { removeWhitespace: false } },
    topLevelVar: true,
    codeSplitting: { groups },
    entryFileNames: "[name].js",
    chunkFileNames: "[name]-[hash].js"
  })
  await made.close()
  /** The folders of packages that are inside, as paths from the root. */
  const packages = new Set(
    output.flatMap(({ modules = {} }) => Object.keys(modules).flatMap((id) => folderOf(id) ?? []))
  )
  writeNotices(folder, [...packages].sort())
  const bytes = output.reduce((sum, { code }) => sum + code.length, 0)
  console.log(`${folder}: ${output.length} files, ${(bytes / 1e6).toFixed(1)} MB, ${packages.size} packages`)
}

await bundle("dist/programs/bundle", { program: "dist/programs/cli/program.js" }, [
  {
    name: "words",
    test: /programs\/cli\/(line|parse|said)\.js$|\/services\/runtime\/optionalPackages\.js$/,
    priority: 2
  },
  { name: "start", test: /programs\/cli\/(start|time)\.js$|\/dist\/(protocol|services)\//, priority: 1 },
  // What a server has in common with a client.
  {
    name: "connection",
    test: /\/dist\/layers\/transport\/(heartbeat|Inbox|PausingInbox|WebSocketConnection|textFrames)\.js$/,
    priority: 1
  },
  // What a server and its HTTP routes share, which otherwise is a file for each set of those that do.
  { name: "runtime", test: /\/dist\/layers\/((session|jobs|log)\/|runtime\/(Runtime|Secrets)\.js)/ },
  {
    name: "client",
    test: /@effect\/platform\/dist\/esm\/(internal\/)?(fetchHttpClient|headers|httpClient\w*|httpIncomingMessage|httpBody|commandExecutor)\.js$/i
  }
])

/** Where the packages are whose modules are shared. */
const roots = {
  effect: "node_modules/effect",
  "@effect/platform": "node_modules/@effect/platform",
  "effect-arcp": "."
}

/** What the entry of a package is for Node, by the conditions of its `exports`. */
const fileFor = (entry) => (typeof entry === "string" ? entry : (entry.node ?? entry.import ?? entry.default))

/** Whether a file is run and not imported; it is whole by itself, and stays where it is. */
const isRun = (file) => file.endsWith("/sqlite-worker.js")

/** The files that a path of `exports` stands for: with a star in it, those of a folder. */
const filesFor = (root, path) => {
  const [folder, end] = path.split("*")
  return end === undefined
    ? [path]
    : readdirSync(join(root, folder))
        .filter((file) => file.endsWith(end))
        .map((file) => `${folder}${file}`)
}

/** Each file of a package that can be imported, by the name of the package and the path in it. */
const entriesOf = (name) =>
  Object.fromEntries(
    Object.values(readJson(join(roots[name], "package.json")).exports)
      .map(fileFor)
      .flatMap((path) => filesFor(roots[name], path))
      .filter((file) => file.endsWith(".js") && existsSync(join(roots[name], file)) && !isRun(file))
      .map((file) => [posix.join(name, file.replace(/\.js$/, "")), `./${posix.join(roots[name], file)}`])
  )

/** Of the platform a part is inside: a file for each of its modules, since those that are not import some that are. */
const partly = {
  name: "partly",
  transform: {
    filter: { id: /\/node_modules\/@effect\/platform\// },
    handler(_, id) {
      const fileName = /@effect\/platform\/.*/.exec(id)[0]
      this.emitFile({ type: "chunk", id, fileName, preserveSignature: "strict" })
    }
  }
}

/** The modules that the first entry exports. */
const ofIndex = readFileSync("dist/index.js", "utf8").match(/\/public\/\w+\.js/g)

await bundle(
  "dist/programs/shared",
  { start: "dist/programs/cli/start.js", ...entriesOf("effect"), ...entriesOf("effect-arcp") },
  [
    { name: "effect", test: /\/node_modules\/(effect|fast-check|pure-rand)\//, priority: 2 },
    { name: "start", test: /\/programs\/cli\/start\.js$|\/node_modules\/@effect\/platform\//, priority: 1 },
    { name: "arcp", test: /\/dist\/(protocol|services)\//, priority: 1 },
    // Each has a path of its own, and nearly everybody imports all of them.
    { name: "index", test: (id) => ofIndex.some((path) => id.endsWith(path)) }
  ],
  [partly]
)
const versions = Object.entries(roots).map(([name, root]) => [
  name,
  readJson(join(root, "package.json")).version
])
writeFileSync("dist/programs/shared/packages.json", JSON.stringify(Object.fromEntries(versions)))
