/** Completions in the shells themselves, where they are installed. */
import { spawn, spawnSync } from "node:child_process"
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterAll, describe, expect, it } from "vitest"

const folder = mkdtempSync(join(tmpdir(), "arcp-completions-"))
afterAll(() => rmSync(folder, { recursive: true }))

const program = fileURLToPath(new URL("../../../dist/programs/arcp.js", import.meta.url))
const bin = join(folder, "bin")
mkdirSync(bin)
writeFileSync(join(bin, "arcp"), `#!/bin/sh\nexec '${process.execPath}' '${program}' "$@"\n`)
chmodSync(join(bin, "arcp"), 0o755)
const env = {
  ...process.env,
  PATH: `${bin}:${process.env["PATH"]}`,
  HOME: folder,
  XDG_CONFIG_HOME: join(folder, "config"),
  XDG_CACHE_HOME: join(folder, "cache"),
  TERM: "xterm",
  ZDOTDIR: folder
}
const arcp = (...args: ReadonlyArray<string>) =>
  spawnSync(join(bin, "arcp"), args, { env, encoding: "utf8" }).stdout
for (const name of ["prod", "stage"])
  arcp("context", "add", name, "--url", "wss://h.example/arcp", "--token", "t")
writeFileSync(join(folder, "lease.json"), "{}")

const has = (name: string, ...args: ReadonlyArray<string>) => spawnSync(name, args).error === undefined

/** What is offered in place of the last word; files are asked for in the folder. */
type Offered = (line: string) => Promise<ReadonlyArray<string>>

const inFish: Offered = async (line) => {
  const script = join(folder, "arcp.fish")
  writeFileSync(script, arcp("completions", "fish"))
  const { stderr, stdout } = spawnSync(
    "fish",
    ["--no-config", "-c", 'source $argv[1]; complete -C "$argv[2]"', script, line],
    { env, cwd: folder, encoding: "utf8" }
  )
  expect(stderr).toBe("")
  return stdout.split("\n").flatMap((offer) => offer.split("\t")[0] || [])
}

/** Says what it offers, and when that was all. */
const zshrc = `PROMPT=
autoload -Uz compinit
compinit -D -u
source ${join(folder, "arcp.zsh")}
compadd() {
  if [[ \${@[1,(i)(-|--)]} != *-(O|A|D)\\ * ]]; then
    local -a offered
    builtin compadd -A offered "$@"
    print -rl -- "<<"\${^offered}">>"
  fi
  builtin compadd "$@"
}
offered_all() { print '<E''ND>' }
comppostfuncs=(offered_all)
bindkey '^I' complete-word
`

/** In a terminal, since zsh completes only in its line editor. */
const inZsh: Offered = async (line) => {
  writeFileSync(join(folder, "arcp.zsh"), arcp("completions", "zsh"))
  writeFileSync(join(folder, ".zshrc"), zshrc)
  const terminal = spawn("script", ["-qfc", "zsh -d -i", "/dev/null"], { env, cwd: folder })
  const printed = await new Promise<string>((resolve, reject) => {
    let text = ""
    terminal.once("error", reject)
    terminal.once("close", () => reject(new Error(`zsh ended: ${text}`)))
    terminal.stdout.setEncoding("utf8").on("data", (part: string) => {
      text += part
      if (text.includes("<END>")) resolve(text)
    })
    terminal.stdin.write(`${line}\t`)
  }).finally(() => terminal.kill("SIGKILL"))
  return [...printed.matchAll(/<<([^<>\r\n]+)>>/g)].map(([, offer = ""]) => offer)
}

describe.each<readonly [string, boolean, Offered]>([
  ["fish", has("fish", "--version"), inFish],
  ["zsh", process.platform === "linux" && has("zsh", "--version") && has("script", "--version"), inZsh]
])("in %s (where there is one)", (name, there, offered) => {
  it.skipIf(!there).each<readonly [string, ReadonlyArray<string>, ReadonlyArray<string>]>([
    ["arcp ", ["serve", "submit", "context", "help", "completions"], ["use", "lease.json"]],
    ["arcp submit --", ["--input", "--lease", "--context", "--help"], ["--agents"]],
    ["arcp submit survey --js", ["--json"], ["--input"]],
    ["arcp submit context --in", ["--input", "--insecure"], ["--use"]],
    ["arcp serve --transport ", ["ws", "stdio"], ["lease.json"]],
    ["arcp submit survey --lease-file ", ["lease.json"], ["serve"]],
    ["arcp context ", ["add", "use", "list"], ["serve", "prod"]],
    ["arcp context use ", ["prod", "stage"], ["lease.json", "add"]],
    ["arcp jobs --context ", ["prod", "stage"], ["lease.json"]],
    ["arcp help ", ["serve", "context"], ["add", "lease.json"]],
    ["arcp help context ", ["add", "use"], ["serve", "lease.json"]],
    ["arcp completions ", ["bash", "zsh", "fish"], ["lease.json"]]
  ])(`%s (where there is ${name})`, async (line, some, none) => {
    const words = await offered(line)
    for (const word of some) expect(words).toContain(word)
    for (const word of none) expect(words).not.toContain(word)
  })
})
