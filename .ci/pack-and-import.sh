#!/usr/bin/env bash
# The package as a user gets it: packed as it is built, installed into empty projects where there is no compiler, imported, run.
#
#   bash .ci/pack-and-import.sh FOLDER    # with the Nodes of .ci/nodes.sh
set -euo pipefail
nodes="$1"
root="$(pwd)"
work="$(mktemp -d)"
server=""
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
npm pack --silent --ignore-scripts --pack-destination "$work" >/dev/null
tarball="$(ls "$work"/effect-arcp-*.tgz)"

# Everything that is on the path but what compiles.
mkdir "$work/bin"
IFS=: read -r -a folders <<<"$PATH"
for folder in "${folders[@]}"; do
  for program in "$folder"/*; do
    name="${program##*/}"
    case "$name" in
    node | cc | c++ | cpp* | gcc* | g++* | clang* | *-gcc* | *-g++* | *-cpp* | make | gmake | cmake | ninja | python*) ;;
    *) [ -e "$work/bin/$name" ] || ln -s "$program" "$work/bin/$name" ;;
    esac
  done
done

# Goes to the project of one of the Nodes, with that on the path.
on() {
  export PATH="$nodes/$1/node_modules/.bin:$work/bin"
  cd "$work/$1"
}

# Makes an empty project with the package in it, on one of the Nodes, and goes there.
project() {
  mkdir "$work/$1"
  on "$1"
  echo '{"name":"empty","private":true,"type":"module"}' >package.json
  npm install --no-audit --no-fund --loglevel=error "$tarball" >/dev/null
}

# Waits for a line of a file that matches, as long as the server lives; prints what matched.
line() {
  for _ in $(seq 3000); do
    if grep -oE "$2" "$1"; then return; fi
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  cat "$1" >&2
  return 1
}

for major in 20 22 24; do
  project "$major"
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

  # A job on a SQLite file, and on that of a server that has ended.
  for _ in 1 2; do
    node node_modules/effect-arcp/dist/programs/arcp.js serve --port 0 --db arcp.db >serve.log 2>&1 &
    server=$!
    url="$(line serve.log 'ws://[^ ]+' | head -1)"
    token="$(line serve.log '^token .+' | head -1)"
    npx --no-install arcp submit survey --url "$url" --token "${token#token }" --input '{"root":"node_modules/effect-arcp/docs"}' --lease 'fs.read=./**' >submit.log 2>&1 ||
      { cat serve.log submit.log; exit 1; }
    kill "$server"
    wait "$server" || true
    server=""
  done
  if grep -iE 'warning|level=WARN' serve.log; then exit 1; fi
  [ "$(ls arcp.db*)" = "$(printf 'arcp.db\narcp.db.lock')" ] || { ls arcp.db*; exit 1; }
  echo "node $(node --version): without a compiler, a server on SQLite starts, runs a job, and starts again"
done

on 20

# Agents of this project, and those that come with the package, served and submitted to.
cp "$root/.ci/agents.mjs" agents.mjs
served() {
  local result url
  node_modules/.bin/arcp serve --memory --port 0 --token t=me --log-level none --agents "$1" >served.txt &
  server=$!
  url="$(line served.txt 'ws://[^ ]+')"
  result="$(node_modules/.bin/arcp submit "$2" --input '"x"' --json --token t --url "$url" | tail -1)"
  kill "$server"
  wait "$server"
  server=""
  echo "$2: $result"
  [[ "$result" == *"$3"* ]]
}
served ./agents.mjs copies '{"job":true,"files":"SystemError","errors":true,"effect":true}'
served conformance echo '"result":"x"'

# Where Node has no SQLite of its own, and its substitute was left out, the store says what it needs.
rm -r node_modules/@photostructure
if npx --no-install arcp serve --port 0 --db arcp.db >serve.log 2>&1; then exit 1; fi
grep -E "^error: .*needs .*npm i @photostructure/sqlite@.*--memory" serve.log || { cat serve.log; exit 1; }

# Its declarations, as a strict application reads them, which writes its own: nothing is skipped.
cp "$root/.ci/consumer.ts" "$root/.ci/contract.ts" .
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
    "declaration": true,
    "rootDir": ".",
    "outDir": "compiled"
  },
  "files": ["consumer.ts", "contract.ts"]
}
JSON
node "$root/.ci/declarations.mjs" .
for compiler in typescript typescript-api; do
  node "$root/node_modules/$compiler/bin/tsc" -p .
  node "$root/node_modules/$compiler/bin/tsc" -p tsconfig.declared.json
  echo "types: a strict application compiles, with declarations: $(node "$root/node_modules/$compiler/bin/tsc" --version)"
done
