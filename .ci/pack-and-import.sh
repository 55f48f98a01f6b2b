#!/usr/bin/env bash
# The package as a user gets it: packed, installed into an empty project, imported, run.
set -euo pipefail
root="$(pwd)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
npm pack --silent --pack-destination "$work" >/dev/null
cd "$work"
echo '{"name":"empty","private":true,"type":"module"}' >package.json
# The compiled SQLite driver of this checkout serves, so that it is not compiled twice.
npm install --no-audit --no-fund --loglevel=error --ignore-scripts ./effect-arcp-*.tgz
mkdir -p node_modules/better-sqlite3
cp -r "$root/node_modules/better-sqlite3/build" node_modules/better-sqlite3/
cat >import.mjs <<'JS'
import assert from "node:assert"
import * as root from "effect-arcp"
import * as node from "effect-arcp/node"
import * as jwt from "effect-arcp/jwt"
import * as promise from "effect-arcp/promise"
import * as testing from "effect-arcp/testing"
for (const name of ["Agent", "Job", "Runtime", "ArcpClient", "Registry", "Auth", "Errors"]) assert(root[name], name)
for (const name of ["RuntimeSqlite", "TransportWebSocket", "DialerWebSocket"]) assert(node[name], name)
assert(jwt.AuthJwt)
assert(promise.Arcp)
for (const name of ["TestRuntime", "Faults", "ScriptedRuntime", "Check"]) assert(testing[name], name)
console.log("imports:", Object.keys(root).length, "+", Object.keys(node).length, "+", Object.keys(jwt).length, "modules")
JS
node import.mjs
npx --no-install arcp --version

# Agents of this project, and those that come with the package, served and submitted to.
cp "$root/.ci/agents.mjs" agents.mjs
served() {
  local server result url
  node_modules/.bin/arcp serve --memory --port 0 --token t=me --log-level none --agents "$1" >served.txt &
  server=$!
  for _ in $(seq 300); do
    if grep -q listening served.txt; then break; fi
    sleep 0.1
  done
  url="$(sed -n 's/^listening //p' served.txt)"
  result="$(node_modules/.bin/arcp submit "$2" --input '"x"' --json --token t --url "$url" | tail -1)"
  kill "$server"
  wait "$server"
  echo "$2: $result"
  [[ "$result" == *"$3"* ]]
}
served ./agents.mjs copies '{"job":true,"files":"SystemError","errors":true,"effect":true}'
served conformance echo '"result":"x"'

# Its declarations, as a strict application reads them: nothing is skipped.
cp "$root/.ci/consumer.ts" consumer.ts
cat >tsconfig.json <<'JSON'
{
  "compilerOptions": {
    "target": "ES2022",
    "lib": ["ES2023", "DOM"],
    "module": "NodeNext",
    "strict": true,
    "exactOptionalPropertyTypes": true,
    "noUncheckedIndexedAccess": true,
    "skipLibCheck": false,
    "types": ["node"],
    "noEmit": true
  },
  "files": ["consumer.ts"]
}
JSON
node "$root/node_modules/typescript/bin/tsc" -p .
echo "types: a strict application compiles"
