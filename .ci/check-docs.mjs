// Compiles the TypeScript of the documentation, as strictly as the package itself.
//
//   npm run check:docs
//
// The blocks of a page are one module, so that later ones may use what earlier ones declare; what a reader can do without at
// first, such as imports, is in a block that is folded up. A block that says `yield*` at its outermost level is the inside of an `Effect.gen`.
// A comment `//    ^? Layer<…>` under a name says what its type is shown as, and is compared. TypeScript 7 has no programming
// interface that is stable yet: what asks for types or syntax takes that of 5.9, under the name of `typescript-api`.

import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import ts from "typescript-api"

const root = fileURLToPath(new URL("..", import.meta.url))
const out = `${root}node_modules/.cache/docs`

/** Everything else becomes empty lines, so that an error is at the line of its page. */
const moduleOf = (page) => {
  const lines = []
  let open
  let start = 0
  for (const line of readFileSync(page, "utf8").split("\n")) {
    if (open === undefined) {
      open = line === "```ts" ? "```" : undefined
      start = lines.length
      lines.push("")
    } else if (line === open) {
      const block = lines.slice(start + 1)
      const isGenerator = block.some((each) => /^(const .* = |return )?yield\* /.test(each))
      lines[start] = isGenerator ? `export const block${start + 1} = Effect.gen(function* () {` : ""
      lines.push(isGenerator ? "})" : "")
      open = undefined
    } else lines.push(line)
  }
  return `${lines.join("\n")}\nexport {}\n`
}

rmSync(out, { recursive: true, force: true })
mkdirSync(out, { recursive: true })
const pages = [
  "README.md",
  ...readdirSync(`${root}docs`).flatMap((name) => (name.endsWith(".md") ? [`docs/${name}`] : []))
]
const modules = new Map(
  pages
    .filter((page) => readFileSync(root + page, "utf8").includes("\n```ts\n"))
    .map((page) => [`${out}/${page.replace(/\W/g, "-")}.mts`, page])
)
for (const [file, page] of modules) writeFileSync(file, moduleOf(root + page))

const { config } = ts.readConfigFile(`${root}tsconfig.json`, ts.sys.readFile)
const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root)
const program = ts.createProgram([...modules.keys()], {
  ...options,
  incremental: false,
  noUnusedLocals: false,
  noUnusedParameters: false,
  tsBuildInfoFile: undefined
})
const checker = program.getTypeChecker()

const problems = ts
  .getPreEmitDiagnostics(program)
  .filter(({ file }) => file === undefined || modules.has(file.fileName))
  .map(({ file, messageText, start }) => {
    const line = file === undefined ? 0 : file.getLineAndCharacterOfPosition(start).line + 1
    return `${modules.get(file?.fileName) ?? ""}:${line}: ${ts.flattenDiagnosticMessageText(messageText, "\n")}`
  })

const nodeAt = (node, position) => {
  const inner = ts.forEachChild(node, (child) =>
    child.getStart() <= position && position < child.end ? nodeAt(child, position) : undefined
  )
  return inner ?? node
}

/** In whatever order the compiler shows the members of unions. */
const members = (type) =>
  type
    .split(/\s*[|,<>]\s*/)
    .sort()
    .join()

let shown = 0
for (const [file, page] of modules) {
  const source = program.getSourceFile(file)
  const lines = source.text.split("\n")
  for (const [i, line] of lines.entries()) {
    const [, indent, said] = /^(\/\/\s*)\^\? (.*)$/.exec(line) ?? []
    if (said === undefined) continue
    const node = nodeAt(source, source.getPositionOfLineAndCharacter(i - 1, indent.length))
    const type = checker.typeToString(
      checker.getTypeAtLocation(node),
      node,
      ts.TypeFormatFlags.NoTruncation | ts.TypeFormatFlags.UseAliasDefinedOutsideCurrentScope
    )
    shown++
    if (members(type) !== members(said))
      problems.push(`${page}:${i + 1}: ${node.getText()} is shown as ${type}`)
  }
}
for (const problem of problems) console.error(problem)
console.log(`documentation: ${modules.size} pages, ${shown} types shown, ${problems.length} problems`)
if (problems.length > 0) process.exitCode = 1
