// Writes docs/conformance.md from what the last whole run of the tests has verified: npm test && node docs/conformance.mjs
// With --check it fails when the page is not what it would write.
import { existsSync, readFileSync, writeFileSync } from "node:fs"

const page = new URL("conformance.md", import.meta.url)
const report = new URL("../node_modules/.cache/conformance.json", import.meta.url)
if (!existsSync(report)) {
  console.error("there is no report of a whole run: run npm test first")
  process.exit(1)
}
const { requirements } = JSON.parse(readFileSync(report, "utf8"))

const cell = (text) => text.replaceAll("|", "\\|").replaceAll("<", "&lt;")
const letters = { websocket: "W", stdio: "S", memory: "M" }

/** The files that verified it; each is linked once, with the transports it did so over. */
const links = (verified) => {
  const files = new Map()
  for (const { file, on } of verified) files.set(file, (files.get(file) ?? new Set()).add(letters[on]))
  return [...files]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([file, on]) => {
      const name = file.replace("test/e2e/", "").replace(".test.ts", "")
      return `[${name}](../${file}) ${["W", "S", "M"].filter((letter) => on.has(letter)).join("")}`
    })
    .join(", ")
}
const rows = requirements.map(
  ({ behaviour, id, section, verified }) =>
    `| ${section} | \`${id}\` | ${cell(behaviour)} | ${links(verified)} |`
)
const elsewhere = new Map()
for (const { id, on, why } of requirements)
  if (why !== "") {
    const key = `over ${on.join(" and ")} only, because ${why}`
    elsewhere.set(key, [...(elsewhere.get(key) ?? []), `\`${id}\``])
  }
const text = `# Conformance

What the black-box suite holds the runtime to. It speaks raw frames, over each of three transports: WebSocket (W, to the
built \`arcp serve --agents conformance\`), stdio (S, to the same program as a child) and the in-memory pair (M, to the built
runtime in the test's own process). On every session, whatever the test, it checks the shape of each envelope, ids, numbers
from 1 without gap, one terminal message per job and nothing after it, \`job.accepted\` before any event of its job, and the
same frame on every replay.

The tests are in the repository, not in the package. One says what it verifies (\`verifies("id")\`), and that counts when the
test has run and passed. A run of the whole suite fails when a requirement was verified by nobody over a transport where it holds.

Sections are those of the protocol page, which orders what the ARCP drafts say (their sections have a §): 1 transports (§4), 2 envelope
(§5), 3 messages, 4 sessions (§6), 5 jobs (§7), 6 events (§8), 7 leases (§9), 8 delegation (§10), 9 tracing (§11), 10 errors (§12), 11
security (§14), 12 what this project adds. \`programs\` is what only the shipped program promises.
This page is written by \`node docs/conformance.mjs\` after \`npm test\`.

| section | requirement | behaviour | tests |
|---|---|---|---|
${rows.join("\n")}

## Not over every transport

${[...elsewhere].map(([key, ids]) => `- ${key}: ${ids.join(" ")}`).join("\n")}
`
if (process.argv.includes("--check")) {
  if (readFileSync(page, "utf8") !== text) {
    console.error("docs/conformance.md is out of date: run npm test && node docs/conformance.mjs")
    process.exit(1)
  }
} else writeFileSync(page, text)
console.log(`${requirements.length} requirements`)
