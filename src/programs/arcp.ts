#!/usr/bin/env node
/**
 * The `arcp` program: `cli/program.ts`, as the build bundles it into few files, which starts several times faster. Bun and
 * Deno put parts of their own in place of packages, which they know by name: there it runs as it was compiled.
 */
const isNode = !("bun" in process.versions || "deno" in process.versions)

await import(new URL(isNode ? "./bundle/program.js" : "./cli/program.js", import.meta.url).href)
