#!/usr/bin/env bash
# The packed package as a client alone, without what is optional, and whole under Node, Bun and Deno.
set -euo pipefail
root="$(pwd)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
npm pack --silent --ignore-scripts --pack-destination "$work" >/dev/null

# Installs the package into a new project, without the scripts of other packages, and says what that is.
project() {
  mkdir "$work/$1"
  cd "$work/$1"
  echo '{"name":"empty","private":true,"type":"module"}' >package.json
  npm install --no-audit --no-fund --loglevel=error --ignore-scripts "${@:2}" "$work"/effect-arcp-*.tgz >/dev/null
  echo "$1: $(grep -c '^    "node_modules/' node_modules/.package-lock.json) packages, $(du -sm node_modules | cut -f1) MB"
}

project client --omit=optional
# Scripts are for what is compiled or downloaded.
if grep '"hasInstallScript"' node_modules/.package-lock.json; then exit 1; fi
cp "$root/.ci/platforms/absent.mjs" "$root/.ci/platforms/consumer.ts" .
timeout 300 node absent.mjs
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
    "types": [],
    "noEmit": true
  },
  "files": ["consumer.ts"]
}
JSON
node "$root/node_modules/typescript/bin/tsc" -p .
echo "client: a strict application compiles, without the types of Node"

project whole
node "$root/.ci/platforms/main.mjs" .
