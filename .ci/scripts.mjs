// Chunks of a bundle as scripts: what V8 has compiled of a script can be kept for the next start on every Node, of a module
// only on later ones, and only before it has run. A script is a function that gets what it imports by calling
// `src/programs/cli/scripts.ts`, which is synchronous. What is imported by its name from outside stays a module: the entries.
import { isBuiltin } from "node:module"
import { posix } from "node:path"
import { parseAst } from "rolldown/parseAst"

/** What loads scripts, from the folder of a bundle. */
export const loader = "../cli/scripts.js"

/** The name of what a script is given: `load` and `builtin`, `import`, and `meta`. */
const given = "$script"

const quoted = (value) => JSON.stringify(value)

/** Calls `enter` with each node within, and with the functions, blocks and loops that it is in. */
const walk = (node, enter, scopes = []) => {
  if (Array.isArray(node)) for (const each of node) walk(each, enter, scopes)
  if (typeof node?.type !== "string") return
  enter(node, scopes)
  const within = /Function|^BlockStatement|^For|^CatchClause|^Switch|^StaticBlock|^Class/.test(node.type)
    ? [...scopes, node]
    : scopes
  for (const key in node) if (typeof node[key] === "object") walk(node[key], enter, within)
}

/** The names that a pattern binds. */
const namesIn = (pattern) => {
  switch (pattern?.type) {
    case "Identifier":
      return [pattern.name]
    case "ObjectPattern":
      return pattern.properties.flatMap((property) => namesIn(property.value ?? property.argument))
    case "ArrayPattern":
      return pattern.elements.flatMap(namesIn)
    case "AssignmentPattern":
      return namesIn(pattern.left)
    case "RestElement":
      return namesIn(pattern.argument)
    default:
      return []
  }
}

/**
 * The names of the top level that functions assign. Who imports one of a module sees what it has become; who takes it from a
 * script does not.
 */
const reassigned = (ast) => {
  const bound = new Map()
  const bind = (scope, names) => bound.set(scope, new Set([...(bound.get(scope) ?? []), ...names]))
  const assigned = []
  walk(ast.body, (node, scopes) => {
    const scope = scopes.at(-1)
    // Of a `var` in a block too few are taken for its own, so that too much is refused and never too little.
    if (node.type === "VariableDeclarator" && scope !== undefined) bind(scope, namesIn(node.id))
    if (/^(Function|Class)Declaration$/.test(node.type) && scope !== undefined) bind(scope, [node.id.name])
    if (/Function/.test(node.type)) bind(node, [...node.params.flatMap(namesIn), ...namesIn(node.id)])
    if (/^ClassExpression$/.test(node.type)) bind(node, namesIn(node.id))
    if (node.type === "CatchClause") bind(node, namesIn(node.param))
    const target =
      node.type === "AssignmentExpression"
        ? node.left
        : node.type === "UpdateExpression"
          ? node.argument
          : null
    if (scopes.some(({ type }) => /Function/.test(type)))
      for (const name of namesIn(target)) assigned.push({ name, scopes })
  })
  return new Set(
    assigned
      .filter(({ name, scopes }) => !scopes.some((scope) => bound.get(scope)?.has(name)))
      .map(({ name }) => name)
  )
}

/** Puts other text in place of parts of it. */
const edited = (code, edits) => {
  let text = code
  for (const { start, end, by } of edits.sort((a, b) => b.start - a.start))
    text = text.slice(0, start) + by + text.slice(end)
  return text
}

/** Declarations of what an import binds, out of what `from` gives. */
const declared = (specifiers, from) => {
  const named = specifiers.filter(({ type }) => type === "ImportSpecifier")
  // What Node has built in is its own default.
  const whole = specifiers
    .filter(({ type }) => type !== "ImportSpecifier")
    .map(({ local }) => `${local.name} = ${from}`)
  const parts = named.map(({ imported, local }) => `${imported.name}: ${local.name}`)
  const all = [...whole, ...(parts.length === 0 ? [] : [`{ ${parts.join(", ")} } = ${from}`])]
  return all.length === 0 ? `${from};` : `const ${all.join(", ")};`
}

const scriptOf = ({ code, fileName }, isScript) => {
  const fail = (problem) => {
    throw new Error(`${fileName} cannot be a script: ${problem}`)
  }
  const ast = parseAst(code)
  const edits = []
  const replace = ({ start, end }, by) => edits.push({ start, end, by })
  if (code.includes(given)) fail(`it has a name of its own that is ${given}`)
  const changes = reassigned(ast)
  const sourceOf = ({ source: { value } }) => {
    if (isBuiltin(value)) return `${given}.builtin(${quoted(value)})`
    if (!isScript(value)) fail(`it imports ${value}`)
    return `${given}.load(${quoted(value)})`
  }
  let others = 0
  for (const node of ast.body) {
    if (node.type === "ImportDeclaration") replace(node, declared(node.specifiers, sourceOf(node)))
    else if (node.type === "ExportNamedDeclaration" && node.declaration === null) {
      const from = node.source === null ? "" : `${given}_${others++}`
      const lines = node.specifiers.map(({ exported, local }) => {
        if (from === "" && changes.has(local.name)) fail(`${local.name} is assigned later`)
        return `exports.${exported.name} = ${from === "" ? local.name : `${from}.${local.name}`};`
      })
      replace(node, (from === "" ? "" : `const ${from} = ${sourceOf(node)};`) + lines.join(" "))
    } else if (/^Export/.test(node.type)) fail(`it has an ${node.type}`)
  }
  walk(ast.body, (node, scopes) => {
    if (node.type === "AwaitExpression" && !scopes.some(({ type }) => /Function/.test(type)))
      fail("it awaits")
    if (node.type === "MetaProperty" && node.meta.name === "import") replace(node, `${given}.meta`)
    if (node.type !== "ImportExpression") return
    const later = node.source.type === "Literal" && isScript(node.source.value) ? "later" : "import"
    replace({ start: node.start, end: node.source.start }, `${given}.${later}(`)
  })
  return `(function (${given}, exports) { "use strict"; ${edited(code, edits)}\n})\n`
}

const entryOf = ({ code, fileName }, isScript) => {
  const edits = []
  const replace = ({ start, end }, by) => edits.push({ start, end, by })
  const address = (from) => `new URL(${quoted(from)}, import.meta.url).href`
  const ast = parseAst(code)
  for (const node of ast.body) {
    if (node.source === undefined || node.source === null || !isScript(node.source.value)) continue
    const from = `${given}.load(${address(node.source.value)})`
    if (node.type === "ImportDeclaration") replace(node, declared(node.specifiers, from))
    else {
      const names = node.specifiers.map(({ exported, local }) => [local.name, exported.name])
      const parts = names.map(([name, exported]) => `${name}: ${given}_${exported}`)
      const again = names.map(([, exported]) => `${given}_${exported} as ${exported}`)
      replace(node, `const { ${parts.join(", ")} } = ${from};\nexport { ${again.join(", ")} };`)
    }
  }
  walk(ast.body, (node) => {
    if (node.type === "ImportExpression" && node.source.type === "Literal" && isScript(node.source.value))
      replace(node, `${given}.later(${address(node.source.value)})`)
  })
  if (edits.length === 0) return code
  // From a folder that is nowhere: a relative path is taken from where the build runs, whatever that is called.
  const from = posix.relative(
    posix.join("/nowhere/bundle", posix.dirname(fileName)),
    posix.join("/nowhere/bundle", loader)
  )
  return `import * as ${given} from ${quoted(from)};\n${edited(code, edits)}`
}

/** A plugin of rolldown that makes scripts of all chunks but the entries, which load them, and what imports from outside. */
export const scripts = {
  name: "scripts",
  generateBundle(_, output) {
    const chunks = Object.values(output).filter(({ type }) => type === "chunk")
    const staysModule = ({ imports, isEntry }) =>
      isEntry || imports.some((from) => output[from] === undefined && !isBuiltin(from))
    const made = new Set(chunks.filter((chunk) => !staysModule(chunk)).map(({ fileName }) => fileName))
    for (const chunk of chunks) {
      const isScript = (source) =>
        source.startsWith(".") && made.has(posix.join(posix.dirname(chunk.fileName), source))
      chunk.code = (made.has(chunk.fileName) ? scriptOf : entryOf)(chunk, isScript)
    }
  }
}
