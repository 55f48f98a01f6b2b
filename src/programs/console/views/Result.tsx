/** How a job has ended, what it was given, and what it left. */
import { useMemo, useState } from "preact/hooks"
import * as Features from "../../../protocol/Features.js"
import { until } from "../model/at.js"
import { looksLike } from "../model/markdown.js"
import { brief, bytes, line, safeUrl } from "../model/text.js"
import { field } from "../model/values.js"
import type { Followed } from "../state/follow.js"
import { JsonTree } from "./JsonTree.js"
import { Markdown } from "./Markdown.js"
import { Copy, download, Long, Problem } from "./parts.js"

const asText = (value: unknown): string =>
  typeof value === "string" ? value : (JSON.stringify(value, null, 2) ?? "")

/** The bytes of a value, in an array that a file may be made of. */
const content = (value: unknown): BlobPart =>
  value instanceof Uint8Array ? Uint8Array.from(value) : asText(value)

/** A text of a result, read as Markdown where it looks like it, else as it is. */
const TextValue = ({ text }: { readonly text: string }) => {
  const isMarkdown = useMemo(() => looksLike(text), [text])
  const [raw, setRaw] = useState(!isMarkdown)
  return (
    <>
      {isMarkdown ? (
        <button type="button" class="small" aria-pressed={raw} onClick={() => setRaw(!raw)}>
          as it is
        </button>
      ) : null}
      {raw ? <Long text={text} /> : <Markdown text={text} />}
    </>
  )
}

export const Value = ({ label, value }: { readonly value: unknown; readonly label: string }) => {
  if (value instanceof Uint8Array) return <p>{bytes(value.length)} of data</p>
  if (typeof value === "string") return <TextValue text={value} />
  return <JsonTree label={label} value={value} />
}

const kindOf = (value: unknown): readonly [extension: string, type: string] =>
  value instanceof Uint8Array
    ? ["bin", "application/octet-stream"]
    : typeof value === "string"
      ? [looksLike(value) ? "md" : "txt", "text/plain"]
      : ["json", "application/json"]

/** What a runtime says of the input of a job, to those who may see it. */
export const inputOf = (job: Followed): { readonly value: unknown } | undefined => {
  const value = field(job.subscribed.value, Features.submittedInput)
  return value === undefined ? undefined : { value }
}

export const Outcome = ({ job, shown }: { readonly job: Followed; readonly shown: boolean }) => {
  const { end } = job.model
  const input = inputOf(job)
  return (
    <>
      {end === undefined || !shown || end.status === "success" ? null : (
        <Problem isSaid code={end.code} message={end.message} details={end.details} />
      )}
      {end?.status !== "success" || !shown ? null : (
        <section class="panel" aria-labelledby="result-title">
          <div class="title">
            <h2 id="result-title">Result</h2>
            <div class="row">
              {end.result instanceof Uint8Array ? null : (
                <Copy label="copy" text={() => asText(end.result)} />
              )}
              <button
                type="button"
                class="small"
                onClick={() => {
                  const [extension, type] = kindOf(end.result)
                  download(`${job.jobId}.${extension}`, content(end.result), type)
                }}
              >
                download
              </button>
            </div>
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
          const name = <bdi>{line(uri, 200)}</bdi>
          return (
            <li key={index}>
              {href === undefined ? (
                name
              ) : (
                <a href={href} target="_blank" rel="noopener noreferrer nofollow">
                  {name}
                </a>
              )}{" "}
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
