/** Exit codes, and what a person is told when something went wrong. */
import * as Cause from "effect/Cause"
import * as ConfigError from "effect/ConfigError"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import {
  type ArcpError,
  InternalError,
  InvalidRequest,
  isArcpError,
  PermissionDenied
} from "../../protocol/Errors.js"
import { TransportError } from "../../services/transport/Transport.js"
import { columnsOf, fitted } from "./columns.js"
import { refusalHint, refused } from "./refusal.js"
import { json, safe } from "./text.js"
import { UsageError } from "./UsageError.js"

export const exitCode = {
  success: 0,
  error: 1,
  usage: 2,
  cancelled: 3,
  timedOut: 4,
  cannotConnect: 5,
  /** As a shell reports a program that SIGINT ended. */
  interrupted: 130
} as const

/** The code the process leaves with; an interrupted program has no result that could carry it. */
export const leaving: { code: number } = { code: exitCode.success }

const hints: { readonly [tag: string]: string } = {
  Unauthenticated: "check --token, ARCP_TOKEN or the context; arcp serve prints its token when it starts",
  TokenUnavailable: "arcp context show says where the token of a context comes from",
  AgentNotAvailable: "arcp agents lists what this runtime hosts",
  AgentVersionNotAvailable: "arcp agents lists the versions",
  JobNotFound: "arcp jobs lists the jobs you may see",
  DuplicateKey: "use another --key, or the same agent, input and limits as before",
  LeaseSubsetViolation:
    "what a job delegates, or takes over, is at most what it may: ask for less, or give it more with --lease",
  Timeout: "give it longer with --timeout-sec",
  LeaseExpired: "give it longer with --expires-in",
  BudgetExhausted: "give it more with --budget",
  ResumeWindowExpired: "the session is gone; a job of it may still run: see arcp jobs and arcp watch"
}

const codeOf = (error: unknown): number => {
  if (error instanceof UsageError || ConfigError.isConfigError(error)) return exitCode.usage
  if (!isArcpError(error)) return error instanceof TransportError ? exitCode.cannotConnect : exitCode.error
  return codeOfJob(error)
}

/** How `arcp submit` and `arcp watch` leave when the job failed. */
const codeOfJob = (error: ArcpError): number =>
  error.code === "CANCELLED"
    ? exitCode.cancelled
    : error.code === "TIMEOUT"
      ? exitCode.timedOut
      : exitCode.error

/** Which settings of the environment are wrong, and how. */
const settings = (error: ConfigError.ConfigError): ReadonlyArray<string> =>
  error._op === "And" || error._op === "Or"
    ? [...settings(error.left), ...settings(error.right)]
    : [`${error.path.join("_")}: ${error._op === "InvalidData" ? error.message : "is missing or unreadable"}`]

const tagOf = (error: unknown): string =>
  typeof error === "object" && error !== null && "_tag" in error ? String(error._tag) : ""

/** What a command line calls what a message has in its payload: where that is in the message is of no interest here. */
const named: { readonly [member: string]: string } = {
  input: "input",
  value: "the answer",
  input_id: "INPUT",
  about_sha256: "--about"
}
const inputPath = /^payload\.input\b/

/** Returns a refusal in the words of a command line. */
export const inWords = ({ message }: InvalidRequest): string =>
  message.replace(/(^|; )payload\.(\w+)/g, (whole, before: string, member: string) =>
    named[member] === undefined ? whole : before + named[member]
  )

const messageOf = (error: unknown): string =>
  error instanceof InvalidRequest
    ? inWords(error)
    : ConfigError.isConfigError(error)
      ? settings(error).join("; ")
      : error instanceof Error && error.message !== ""
        ? error.message
        : tagOf(error) || String(error)

/** A job was refused something by its lease, or this client something by the runtime. */
const denialHint = (error: PermissionDenied): string | undefined =>
  error.message.startsWith("only the session")
    ? "Ctrl-C where arcp submit runs cancels the job, arcp cancel where it was submitted with --detach"
    : (refusalHint(error.details) ?? "what a job may do is given with --lease, see arcp submit --help")

/** What to do about a refusal, by the reason that the runtime names. */
const reasonHints: { readonly [reason: string]: string } = {
  unknown_input: "arcp answer JOB shows what it asks",
  about: "arcp answer JOB shows what it is about now",
  input_unknown: "--input JSON says it",
  lease_expired: "--expires-in 1h gives the job a lease of its own",
  unknown_step: "arcp replay --job JOB --steps lists what a job has done",
  agent_version: "--agent NAME@VERSION says which version runs",
  agent: "--agent NAME@VERSION takes another version, and no other agent"
}

/** Detail of a refusal in which a command notes which agent it has asked. */
export const askedAgent = "asked_agent"

/** What the runtime refuses to read: what the agent was to be given, or something that is this program's mistake. */
const requestHint = (error: InvalidRequest): string | undefined =>
  inputPath.test(error.message)
    ? `arcp agents ${error.details?.[askedAgent] ?? "NAME"} shows what the agent takes as --input`
    : reasonHints[String(error.details?.["reason"])]

/** There is no runtime, or it is somewhere else. */
const transportHint =
  "arcp serve starts a runtime and prints its address; --url, ARCP_URL or a context says where it is"

const cut = (text: string, length: number) => (text.length > length ? `${text.slice(0, length - 1)}…` : text)

/** A failure that the agent declares, by its name: `TooBig: {"max":30}`. */
const declared = (error: unknown): string | undefined => {
  const failure = error instanceof InternalError ? error.details?.["error"] : undefined
  if (failure === undefined) return undefined
  if (typeof failure !== "object" || failure === null)
    return `the agent failed: ${cut(JSON.stringify(failure), 400)}`
  const fields: Readonly<Record<string, unknown>> = { ...failure }
  const { _tag: name, ...rest } = fields
  const { message, ...others } = rest
  const said =
    typeof message === "string" && Object.keys(others).length === 0 ? message : JSON.stringify(rest)
  return `${typeof name === "string" ? name : "the agent failed"}${said === "{}" ? "" : `: ${cut(said, 400)}`}`
}

/** What a lease has refused, after the message, which does not say it. */
const targetOf = ({ details }: ArcpError): string => {
  const target = refused(details)
  return target === undefined ? "" : ` (${target})`
}

/** What the store says of the file that `--db` names has the flag before the name. */
const withFlag = (message: string, db: string): string => {
  const at = message.indexOf(db)
  // What is beside the file has a longer name.
  return at < 0 || !/^($|[ :;,])/.test(message.slice(at + db.length))
    ? message
    : `${message.slice(0, at)}--db ${message.slice(at)}`
}

/** What happened, and what to do about it. */
interface Explained {
  readonly code: string | undefined
  readonly message: string
  readonly hint: string | undefined
}

/** Never a stack trace. `db`: what `--db` names. */
const explained = (error: unknown, db: string | undefined): Explained => {
  const failure = declared(error)
  const code = isArcpError(error) && failure === undefined ? error.code : undefined
  const hint =
    error instanceof PermissionDenied
      ? denialHint(error)
      : error instanceof TransportError
        ? transportHint
        : error instanceof InvalidRequest
          ? requestHint(error)
          : hints[tagOf(error)]
  const message = failure ?? `${messageOf(error)}${isArcpError(error) ? targetOf(error) : ""}`
  const said = db !== undefined && tagOf(error) === "StoreError" ? withFlag(message, db) : message
  return { code, message: said, hint }
}

/** One line that says what happened and one that says what to do. */
export const describe = (error: unknown, db?: string): string => {
  const { code, hint, message } = explained(error, db)
  return safe(
    `error: ${code === undefined ? "" : `${code}: `}${message}${hint === undefined ? "" : `\n  ${hint}`}`
  )
}

/** Reports a failure and sets the exit code: in words, or with `--json` as one line beside the logs, which are JSON then, too. */
export const report =
  ({ db, isJson }: { readonly db: string | undefined; readonly isJson: boolean }) =>
  (cause: Cause.Cause<unknown>): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (Cause.isInterruptedOnly(cause)) return Effect.void
      const error = Cause.squash(cause)
      leaving.code = codeOf(error)
      return isJson
        ? Effect.map(Effect.console, ({ unsafe }) =>
            unsafe.error(
              json({
                type: "error",
                ...explained(error, db),
                ...(isArcpError(error) ? { details: error.details } : {})
              })
            )
          )
        : Console.error(fitted(describe(error, db), columnsOf(process.stderr)))
    })
