/** A value as a tree that is made as it is opened, so that it may be of any size. */
import { useMemo, useState } from "preact/hooks"
import { brief, count, plain } from "../model/text.js"

/** Members that are shown at first, and that are added when more are asked for. */
const page = 100

const isObject = (value: unknown): value is object => typeof value === "object" && value !== null

const Leaf = ({ value }: { readonly value: unknown }) => {
  const [whole, setWhole] = useState(false)
  if (typeof value !== "string")
    return <span class={`json-${value === null ? "null" : typeof value}`}>{String(value)}</span>
  const long = value.length > 400
  return (
    <span class="json-string">
      <bdi>{plain(JSON.stringify(whole ? value.slice(0, 200_000) : value.slice(0, 400)), 400_000)}</bdi>
      {long && !whole ? (
        <button type="button" class="small" onClick={() => setWhole(true)}>
          … all {count(value.length)} characters
        </button>
      ) : null}
    </span>
  )
}

const Node = ({
  depth,
  name,
  value
}: {
  readonly name: string | undefined
  readonly value: unknown
  readonly depth: number
}) => {
  const [open, setOpen] = useState(depth < 2)
  const [most, setMost] = useState(page)
  // Of a million members their names alone take a while: once is enough.
  const keys = useMemo(
    () => (isObject(value) && !Array.isArray(value) ? Object.keys(value) : undefined),
    [value]
  )
  const label =
    name === undefined ? null : (
      <span class="json-key">
        <bdi>{plain(name, 200)}</bdi>:{" "}
      </span>
    )
  if (!isObject(value))
    return (
      <li>
        {label}
        <Leaf value={value} />
      </li>
    )
  const isList = Array.isArray(value)
  const size = isList ? value.length : (keys?.length ?? 0)
  const shown: ReadonlyArray<readonly [string, unknown]> = !open
    ? []
    : isList
      ? value.slice(0, most).map((item: unknown, i) => [String(i), item] as const)
      : (keys ?? []).slice(0, most).map((key) => [key, (value as Readonly<Record<string, unknown>>)[key]])
  return (
    <li>
      <button type="button" class="json-toggle" aria-expanded={open} onClick={() => setOpen(!open)}>
        <span aria-hidden="true">{open ? "▾" : "▸"}</span> {label}
        <span class="quiet">
          {isList ? `list of ${count(size)}` : `${count(size)} ${size === 1 ? "member" : "members"}`}
          {open ? "" : ` ${brief(value, 80)}`}
        </span>
      </button>
      {open ? (
        <ul>
          {shown.map(([key, item]) => (
            <Node key={key} name={key} value={item} depth={depth + 1} />
          ))}
          {size > most ? (
            <li>
              <button type="button" class="small" onClick={() => setMost(most + page * 5)}>
                {count(size - most)} more
              </button>
            </li>
          ) : null}
        </ul>
      ) : null}
    </li>
  )
}

export const JsonTree = ({ label, value }: { readonly value: unknown; readonly label: string }) => (
  <ul class="json" aria-label={label}>
    <Node name={undefined} value={value} depth={0} />
  </ul>
)
