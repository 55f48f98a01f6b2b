#!/usr/bin/env bash
# Known faults of what an install brings: fails for high ones in what users get, tells of the rest. Where the registry
# cannot be asked it says why, and fails nothing: that the network is away is no fault of the commit.
#
#   bash .ci/audit.sh
set -uo pipefail
cd "$(dirname "$0")/.."

# Asks once; the answer is JSON, of a registry that cannot be reached too. That npm has found something it says by its exit
# code as well, whatever that is: how bad it is decides the judge.
audit() { npm audit --json "$@" 2>/dev/null || true; }

# Says what the answer comes to: 0 nothing, 1 something, 2 there was no answer.
judge() {
  node -e '
    const [what, least] = process.argv.slice(1)
    let answer
    try { answer = JSON.parse(require("node:fs").readFileSync(0, "utf8")) } catch { answer = { message: "npm said nothing" } }
    const found = answer.metadata?.vulnerabilities
    if (found === undefined) {
      console.log(`${what}: not audited: ${String(answer.message ?? answer.error?.summary ?? "no answer").split("\n")[0]}`)
      process.exit(2)
    }
    const levels = ["low", "moderate", "high", "critical"]
    const named = Object.values(answer.vulnerabilities ?? {}).map(({ name, severity, range }) => `${name} ${range} (${severity})`)
    console.log(`${what}: ${levels.map((level) => `${found[level] ?? 0} ${level}`).join(", ")}`)
    for (const line of named) console.log(`  ${line}`)
    process.exit(levels.slice(levels.indexOf(least)).some((level) => (found[level] ?? 0) > 0) ? 1 : 0)
  ' "$1" "$2"
}

audit --omit=dev | judge "what users get" high
outcome=$?
# Of what only builds and tests, nothing is a reason to stop a commit.
audit | judge "with what builds and tests it" critical || true
[ "$outcome" != 1 ]
