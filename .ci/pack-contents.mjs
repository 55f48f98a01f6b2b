/**
 * What `npm pack` would publish is what is named here and nothing else: no test, no database, no key, nothing of who built
 * it. Needs a build.
 *
 *   node .ci/pack-contents.mjs
 */
import { execFileSync } from "node:child_process"
import { readFileSync } from "node:fs"

/** What may be in the package. */
const allowed = [
  /^(package\.json|README\.md|CHANGELOG\.md|LICENSE)$/,
  /^src\/(?:[\w-]+\/)*[\w.-]+\.tsx?$/,
  /^src\/programs\/[\w-]+\/[\w-]+\.(html|css)$/,
  /^dist\/(?:[\w@.-]+\/)*[\w@.-]+\.(js|mjs|d\.ts|js\.map|d\.ts\.map|html|css|json|wasm|svg)$/,
  /^dist\/programs\/[\w-]+\/NOTICES\.txt$/,
  /^docs\/([\w-]+\.(md|svg|png)|grafana-dashboard\.json|prometheus-alerts\.yaml)$/,
  /^examples\/([\w-]+\.ts|README\.md|cluster\/(Dockerfile|[\w.-]+\.(mjs|yaml|conf)))$/,
  /^bench\/README\.md$/
]

/** What must not be, whatever its name is allowed as. */
const forbidden = [
  /\.test\./,
  /(^|\/)\./,
  /\.(db|sqlite|pem|key|env|log|tgz)(-\w+)?$/,
  /(^|\/)node_modules\//
]

/** What the manifest promises. */
const { bin, exports } = JSON.parse(readFileSync("package.json", "utf8"))
const promised = [
  ...Object.values(bin),
  ...Object.values(exports).flatMap((e) => (typeof e === "string" ? e : Object.values(e)))
]

/** Whether a file is at a path of `exports`, which may have a star in it. */
const isAt = (file, path) => {
  const [start, end] = path.split("*")
  return end === undefined ? file === path : file.startsWith(start) && file.endsWith(end)
}

/** Bytes, unpacked and packed, above which something has come in that was not meant to. */
const maxUnpacked = 25_000_000
const maxPacked = 6_000_000

const [pack] = JSON.parse(
  execFileSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], {
    encoding: "utf8",
    maxBuffer: 64 * 1024 * 1024,
    stdio: ["ignore", "pipe", "ignore"]
  })
)
const paths = pack.files.map(({ path }) => path)
const problems = [
  ...paths
    .filter((path) => !allowed.some((pattern) => pattern.test(path)))
    .map((path) => `${path} is not allowed`),
  ...paths
    .filter((path) => forbidden.some((pattern) => pattern.test(path)))
    .map((path) => `${path} must not be there`),
  ...promised
    .map((path) => path.replace(/^\.\//, ""))
    .filter((path) => !paths.some((there) => isAt(there, path)))
    .map((path) => `${path} is promised by package.json, and is not there`),
  ...(pack.unpackedSize > maxUnpacked
    ? [`${pack.unpackedSize} bytes unpacked are more than ${maxUnpacked}`]
    : []),
  ...(pack.size > maxPacked ? [`${pack.size} bytes packed are more than ${maxPacked}`] : [])
]
for (const problem of problems) console.error(problem)
console.log(`${paths.length} files, ${pack.size} bytes packed, ${pack.unpackedSize} unpacked`)
process.exitCode = problems.length > 0 ? 1 : 0
