/**
 * Writes modules that export what each public name gives, without a type of their own: a compiler that writes declarations
 * has to name every type in them by a path that the package exports. Each imports one module of the package only, as an
 * application does that needs no more.
 *
 *   node .ci/declarations.mjs FOLDER    # a project that has the package
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import ts from "typescript-api"

const folder = process.argv[2]
const { exports } = JSON.parse(readFileSync(join(folder, "node_modules/effect-arcp/package.json"), "utf8"))
/** Those that hold modules; the others are one module of them each. */
const entries = Object.keys(exports).filter((name) => exports[name].types && !/\*|^\.\/testing\//.test(name))

/** What is for those who replace a part, or is handed from one to another as it is: members of it are never inferred. */
const parts = new Set(["ClientState", "EventLog", "Jobs", "RuntimeCluster", "Sessions", "Store"])

const all = join(folder, "all.ts")
writeFileSync(
  all,
  entries.map((name, i) => `export * as entry${i} from "effect-arcp${name.slice(1)}"\n`).join("")
)
const program = ts.createProgram([all], {
  module: ts.ModuleKind.NodeNext,
  target: ts.ScriptTarget.ES2022,
  strict: true,
  skipLibCheck: true,
  types: ["node"]
})
const checker = program.getTypeChecker()
const meant = (symbol) => (symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol)
const isModule = (symbol) => (symbol.flags & ts.SymbolFlags.ValueModule) !== 0

/** Exported here as a type only, even if it is a value where it is declared. */
const isTypeOnly = (exported, named) =>
  !(named.flags & ts.SymbolFlags.Value) ||
  (exported.declarations ?? []).some(
    (each) => ts.isExportSpecifier(each) && ts.isTypeOnlyExportDeclaration(each)
  )

/** The members of an interface, each as what a function gives. */
const members = (path, symbol) => {
  const type = checker.getDeclaredTypeOfSymbol(symbol)
  const given = (type.typeParameters ?? []).filter((each) => !each.isThisType).map(() => "any")
  const name = given.length === 0 ? path : `${path}<${given.join(", ")}>`
  return checker
    .getPropertiesOfType(type)
    .filter((each) => /^[a-z]\w*$/i.test(each.name))
    .map((each) => `(of: ${name}) => of.${each.name}`)
}

const valuesOf = (prefix, module, isPart) =>
  checker.getExportsOfModule(module).flatMap((exported) => {
    const named = meant(exported)
    if (isModule(named)) return []
    const path = `${prefix}.${exported.name}`
    const typed = named.flags & (ts.SymbolFlags.Interface | ts.SymbolFlags.Class)
    return [...(isTypeOnly(exported, named) ? [] : [path]), ...(typed && !isPart ? members(path, named) : [])]
  })

const files = []
const write = (name, line, values) => {
  if (values.length === 0) return
  const text = [line, ...values.map((value, i) => `export const value${i} = ${value}`)]
  writeFileSync(join(folder, "declared", name), `${text.join("\n")}\n`)
  files.push(`declared/${name}`)
}

mkdirSync(join(folder, "declared"), { recursive: true })
for (const entry of checker.getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(all)))) {
  const from = entries[Number(entry.name.slice("entry".length))]
  const specifier = `effect-arcp${from.slice(1)}`
  const module = meant(entry)
  for (const exported of checker.getExportsOfModule(module)) {
    const named = meant(exported)
    if (!isModule(named)) continue
    const { name } = exported
    write(
      `${from.replace(/\W/g, "")}-${name}.ts`,
      `import { ${name} } from "${specifier}"`,
      valuesOf(name, named, parts.has(name))
    )
  }
  write(
    `${from.replace(/\W/g, "")}-.ts`,
    `import * as Entry from "${specifier}"`,
    valuesOf("Entry", module, false)
  )
}
writeFileSync(
  join(folder, "tsconfig.declared.json"),
  JSON.stringify({
    extends: "./tsconfig.json",
    compilerOptions: { skipLibCheck: true, outDir: "declared/out", rootDir: "." },
    files
  })
)
console.log(`declarations: ${files.length} modules`)
