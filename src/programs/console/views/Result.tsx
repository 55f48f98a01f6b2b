/** How a job has ended, what it was given, and what it left. */
import { useMemo, useState } from "preact/hooks"
import * as Features from "../../../protocol/Features.js"
import { until } from "../model/at.js"
import { looksLike } from "../model/markdown.js"
import { jsonIn, jsonUnasked, mostUnasked, type Reading, readingOf, Streamed } from "../model/Streamed.js"
import { brief, bytes, line, safeUrl } from "../model/text.js"
import { field } from "../model/values.js"
import type { Followed } from "../state/follow.js"
import { JsonTree } from "./JsonTree.js"
import { Markdown, Outside } from "./Markdown.js"
import { Copy, download, Long, Problem } from "./parts.js"

/** A value as the text that it is copied and saved as. */
const textOf = (value: unknown): string =>
  value instanceof Streamed
    ? (value.reading?.all() ?? "")
    : typeof value === "string"
      ? value
      : (JSON.stringify(value, null, 2) ?? "")

/** The bytes of a value, as a file is made of them; those of a result as they came. */
const content = (value: unknown): BlobPart =>
  value instanceof Streamed
    ? new Blob([...value.parts])
    : value instanceof Uint8Array
      ? Uint8Array.from(value)
      : textOf(value)

const isData = (value: unknown): boolean =>
  value instanceof Uint8Array || (value instanceof Streamed && !value.isText)

/** The text of a file for it, and what kind of file that is. */
const kindOf = (value: unknown): readonly [extension: string, type: string] => {
  if (isData(value)) return ["bin", "application/octet-stream"]
  const text =
    value instanceof Streamed ? value.reading : typeof value === "string" ? readingOf(value) : undefined
  if (text === undefined || text.mayBeJson) return ["json", "application/json"]
  return [isMarkdownIn(text) ? "md" : "txt", "text/plain"]
}

const isMarkdownIn = ({ beginning, isAll, mayBeJson }: Reading): boolean =>
  isAll && !mayBeJson && looksLike(beginning)

/** What a text is read as. */
type Way = "as it is" | "as Markdown" | "as a tree"

/** Reads a large text once the page has said that it does: it can do nothing else meanwhile. */
const useReading = (text: Reading, at: object | undefined) => {
  const [tree, setTree] = useState(at)
  const [state, setState] = useState<"" | "reads" | "none">("")
  const read = () => {
    setState("reads")
    requestAnimationFrame(() =>
      setTimeout(() => {
        const found = jsonIn(text.all())
        setTree(found)
        setState(found === undefined ? "none" : "")
      })
    )
  }
  return { tree, state, read }
}

/** A text of a result: as it is, as Markdown where it looks like it, or as a tree where it is JSON. */
const TextValue = ({
  first,
  label,
  text
}: {
  readonly text: Reading
  readonly label: string
  /** The tree of it, when that is what is shown at first. */
  readonly first: object | undefined
}) => {
  const isMarkdown = useMemo(() => isMarkdownIn(text), [text])
  const { read, state, tree } = useReading(text, first)
  const [way, setWay] = useState<Way>(
    first !== undefined ? "as a tree" : isMarkdown ? "as Markdown" : "as it is"
  )
  const ways: ReadonlyArray<Way> = [
    ...(text.mayBeJson ? ["as a tree" as const] : isMarkdown ? ["as Markdown" as const] : []),
    "as it is"
  ]
  const choose = (next: Way) => {
    if (state === "reads") return
    setWay(next)
    if (next === "as a tree" && tree === undefined) read()
  }
  const isTree = way === "as a tree" && tree !== undefined
  const shown: Way = way === "as a tree" && state === "none" ? "as it is" : way
  return (
    <>
      {ways.length === 1 ? null : (
        <div class="row ways" role="group" aria-label={`how the ${label} is shown`}>
          {ways.map((one) => (
            <button
              key={one}
              type="button"
              class="small"
              aria-pressed={shown === one}
              aria-disabled={state === "reads"}
              title={
                one === "as a tree" && tree === undefined && text.beginning.length > mostUnasked
                  ? "Reads all of it; the page stands still meanwhile"
                  : undefined
              }
              onClick={() => choose(one)}
            >
              {one}
            </button>
          ))}
          <span class="quiet" role="status">
            {state === "reads" ? "Reading it …" : state === "none" ? "It is no JSON that can be read." : ""}
          </span>
        </div>
      )}
      {isTree ? (
        <JsonTree label={label} value={tree} />
      ) : way === "as Markdown" ? (
        <Markdown text={text.beginning} />
      ) : (
        <Long text={text.beginning} isAll={text.isAll} />
      )}
    </>
  )
}

const StreamedValue = ({ label, of }: { readonly of: Streamed; readonly label: string }) => {
  const { reading } = of
  const first = useMemo(
    () => (reading?.isAll === true ? jsonUnasked(reading.beginning) : undefined),
    [reading]
  )
  return (
    <>
      <p class="quiet">
        {bytes(of.size)} of {isData(of) ? "data" : "text"}
        {of.isWhole
          ? ""
          : `, of which the first ${bytes(of.kept)} are here, and in the download. All of it is at /v1/jobs/JOB/result.`}
      </p>
      {reading === undefined ? null : <TextValue label={label} text={reading} first={first} />}
    </>
  )
}

const PlainText = ({ label, text }: { readonly text: string; readonly label: string }) => (
  <TextValue label={label} text={useMemo(() => readingOf(text), [text])} first={undefined} />
)

export const Value = ({ label, value }: { readonly value: unknown; readonly label: string }) => {
  if (value instanceof Streamed) return <StreamedValue label={label} of={value} />
  if (value instanceof Uint8Array) return <p>{bytes(value.length)} of data</p>
  if (typeof value === "string") return <PlainText label={label} text={value} />
  return <JsonTree label={label} value={value} />
}

/** Whether a value is so long that a page that copies it stands still for seconds. */
const isLong = (value: unknown): boolean => value instanceof Streamed && value.reading?.isAll === false

/** Copies a value, and saves it as a file: one that is long only that. */
const Take = ({ name, value }: { readonly name: string; readonly value: unknown }) => (
  <div class="row">
    {isData(value) || isLong(value) ? null : <Copy label="copy" text={() => textOf(value)} />}
    <button
      type="button"
      class="small"
      onClick={() => {
        const [extension, type] = kindOf(value)
        download(`${name}.${extension}`, content(value), type)
      }}
    >
      download
    </button>
  </div>
)

/** What a runtime says of the input of a job, to those who may see it. */
export const inputOf = (job: Followed): { readonly value: unknown } | undefined => {
  const value = field(job.subscribed.value, Features.submittedInput)
  return value === undefined ? undefined : { value }
}

/** Why a job has failed is said as long as its head says that it has; its result is what there is at the end. */
export const Outcome = ({ job, shown }: { readonly job: Followed; readonly shown: boolean }) => {
  const { end } = job.model
  const input = inputOf(job)
  return (
    <>
      {end === undefined || end.status === "success" ? null : (
        <Problem isSaid code={end.code} message={end.message} details={end.details} />
      )}
      {end?.status !== "success" || !shown ? null : (
        <section class="panel" aria-labelledby="result-title">
          <div class="title">
            <h2 id="result-title">Result</h2>
            <Take name={job.jobId} value={end.result} />
          </div>
          <div class="value">
            <Value label="result" value={end.result} />
          </div>
        </section>
      )}
      {input === undefined ? null : (
        <details class="panel">
          <summary>
            <h2>Input</h2>{" "}
            <span class="quiet">
              <bdi>{brief(input.value, 100)}</bdi>
            </span>
          </summary>
          <Take name={`${job.jobId}-input`} value={input.value} />
          <Value label="input" value={input.value} />
        </details>
      )}
    </>
  )
}

export const Artifacts = ({ job, upTo }: { readonly job: Followed; readonly upTo: number }) => {
  const artifacts = until(job.model.artifacts, upTo)
  if (artifacts.length === 0) return null
  return (
    <section class="panel" aria-labelledby="artifacts-title">
      <h2 id="artifacts-title">Artifacts</h2>
      <ul class="artifacts">
        {artifacts.slice(-200).map(({ contentType, index, size, uri }) => {
          const href = safeUrl(uri)
          const name = line(uri, 200)
          return (
            <li key={index}>
              {href === undefined ? <bdi>{name}</bdi> : <Outside href={href} text={name} of={uri} />}{" "}
              <span class="quiet">
                <bdi>{line(contentType, 60)}</bdi> {size === undefined ? "" : bytes(size)}
              </span>
            </li>
          )
        })}
      </ul>
    </section>
  )
}
