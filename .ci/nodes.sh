#!/usr/bin/env bash
# Installs every Node that is supported into a folder: the program of version 22 is FOLDER/22/node_modules/.bin/node. The
# binaries are those of the package `node` of the npm registry.
#
#   bash .ci/nodes.sh FOLDER
set -euo pipefail
for version in 20.20.2 22.23.3 24.21.0; do
  folder="$1/${version%%.*}"
  mkdir -p "$folder"
  echo '{"private":true}' >"$folder/package.json"
  npm install --prefix "$folder" --no-audit --no-fund --loglevel=error "node@$version" >/dev/null
  "$folder/node_modules/.bin/node" --version
done
