/** A value as a tree that is made as it is opened, so that it may be of any size. */
import { useState } from "preact/hooks"
import { brief, count, plain } from "../model/text.js"
import { namesOf, openAtFirst } from "../model/tree.js"
import { useShare } from "./sharing.js"

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

/** What is known of an object or a list that is shown. */
interface Look {
  readonly names: ReadonlyArray<string>
  readonly said: string
}

const nothing: Look = { names: [], said: "" }

/** Looks at an object or a list, or not yet, as long as other parts have their turn. */
const useLook = (value: unknown): Look | undefined =>
  useShare(value, () =>
    isObject(value) ? { names: Array.isArray(value) ? [] : namesOf(value), said: brief(value, 80) } : nothing
  )

/** The members of an object or a list that are shown. */
const Members = ({
  depth,
  names,
  of
}: {
  readonly of: object
  readonly names: ReadonlyArray<string>
  readonly depth: number
}) => {
  const [most, setMost] = useState(page)
  const size = Array.isArray(of) ? of.length : names.length
  const shown: ReadonlyArray<readonly [string, unknown]> = Array.isArray(of)
    ? of.slice(0, most).map((item: unknown, i) => [String(i), item] as const)
    : names.slice(0, most).map((key) => [key, (of as Readonly<Record<string, unknown>>)[key]])
  return (
    <ul>
      {shown.map(([key, item]) => (
        <Node
          key={key}
          name={key}
          value={item}
          depth={depth + 1}
          mostOpen={depth === 0 ? openAtFirst(size, page) : 0}
        />
      ))}
      {size > most ? (
        <li>
          <button type="button" class="small" onClick={() => setMost(most + page * 5)}>
            {count(size - most)} more
          </button>
        </li>
      ) : null}
    </ul>
  )
}

const Node = ({
  depth,
  mostOpen,
  name,
  value
}: {
  readonly name: string | undefined
  readonly value: unknown
  readonly depth: number
  /** Members that it may have and be open at first. */
  readonly mostOpen: number
}) => {
  const [chosen, setChosen] = useState<boolean | undefined>(undefined)
  const look = useLook(value)
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
  const size = isList ? value.length : look?.names.length
  const open = chosen ?? (size !== undefined && size <= mostOpen)
  return (
    <li>
      <button type="button" class="json-toggle" aria-expanded={open} onClick={() => setChosen(!open)}>
        <span aria-hidden="true">{open ? "▾" : "▸"}</span> {label}
        <span class="quiet">
          {size === undefined
            ? "…"
            : isList
              ? `list of ${count(size)}`
              : `${count(size)} ${size === 1 ? "member" : "members"}`}
          {open || look === undefined ? "" : ` ${look.said}`}
        </span>
      </button>
      {open ? <Members of={value} names={isList ? [] : namesOf(value)} depth={depth} /> : null}
    </li>
  )
}

export const JsonTree = ({ label, value }: { readonly value: unknown; readonly label: string }) => (
  <ul class="json" aria-label={label}>
    <Node name={undefined} value={value} depth={0} mostOpen={Number.POSITIVE_INFINITY} />
  </ul>
)
