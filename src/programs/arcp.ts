#!/usr/bin/env node
/** The `arcp` program: `cli/program.ts`, as the build bundles it into few files, which starts several times faster. */
await import(new URL("./bundle/program.js", import.meta.url).href)
