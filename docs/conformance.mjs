// Writes docs/conformance.md from the suite's requirements: node docs/conformance.mjs
// With --check it fails when the page is not what it would write.
import { readdirSync, readFileSync, writeFileSync } from "node:fs"

const suite = new URL("../test/e2e/", import.meta.url)
const page = new URL("conformance.md", import.meta.url)

const source = readFileSync(new URL("requirements.ts", suite), "utf8")
const entry =
  /^ {2}(?:"([^"]+)"|([\w-]+)): \{\s*section: "([^"]+)",\s*behaviour:\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|`([^`]*)`)/gm
const requirements = [...source.matchAll(entry)].map((m) => ({
  id: m[1] ?? m[2],
  section: m[3],
  behaviour: (m[4] ?? m[5] ?? m[6]).replaceAll("\\", "")
}))

const tests = new Map()
for (const name of readdirSync(suite).filter((name) => name.endsWith(".test.ts")))
  for (const call of readFileSync(new URL(name, suite), "utf8").matchAll(/verifies\(([^)]*)\)/g))
    for (const id of call[1].matchAll(/"([^"]+)"/g)) {
      if (!tests.has(id[1])) tests.set(id[1], new Set())
      tests.get(id[1]).add(name)
    }

const cell = (text) => text.replaceAll("|", "\\|").replaceAll("<", "&lt;")
const rows = requirements.map(
  ({ id, section, behaviour }) =>
    `| ${section} | \`${id}\` | ${cell(behaviour)} | ${[...(tests.get(id) ?? [])].map((name) => `[${name.replace(".test.ts", "")}](../test/e2e/${name})`).join(", ")} |`
)
const text = `# Conformance

What the black-box suite holds the runtime to. It drives the built \`arcp serve --agents conformance\` over raw
WebSocket frames and stdio, and checks on every session, whatever the test: the shape of each envelope, ids, numbers from 1
without gap, one terminal message per job and nothing after it, \`job.accepted\` before any event of its job, and the same
frame on every replay. A requirement that no test verifies fails the build.

Sections are those of the protocol page; \`programs\` is what only the shipped program promises.
This page is written by \`node docs/conformance.mjs\`.

| section | requirement | behaviour | tests |
|---|---|---|---|
${rows.join("\n")}

Not here yet: a span per session (section 9); jobs and delegated jobs have theirs.
`
if (process.argv.includes("--check")) {
  if (readFileSync(page, "utf8") !== text) {
    console.error("docs/conformance.md is out of date: run node docs/conformance.mjs")
    process.exit(1)
  }
} else writeFileSync(page, text)
console.log(`${requirements.length} requirements`)
