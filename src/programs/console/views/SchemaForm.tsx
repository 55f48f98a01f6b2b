/** A form for a value of which a JSON Schema is known. */
import { useId, useRef, useState } from "preact/hooks"
import { type Field, initial, type Member, variantAt, withMember } from "../model/schemaForm.js"
import { line, optionName } from "../model/text.js"
import { field as memberOf } from "../model/values.js"
import { Choice, type Given, Json, NumberInput, TextInput } from "./boxes.js"

/** Which of several it is, and the field of that. */
const Union = ({
  describedBy,
  id,
  of,
  onChange,
  optional,
  value
}: Given & { readonly of: Extract<Field, { type: "union" }> }) => {
  // What is chosen stays so while nothing is in its field yet.
  const [at, setAt] = useState(() => (value === undefined ? -1 : variantAt(of, value)))
  const variant = of.variants[at]
  return (
    <div class="members">
      <select
        id={id}
        aria-describedby={describedBy}
        value={String(at)}
        onChange={(event) => {
          const next = Number(event.currentTarget.value)
          const field = of.variants[next]?.field
          setAt(next)
          onChange(field === undefined ? undefined : initial(field, true))
        }}
      >
        {at === -1 || optional === true ? <option value="-1">–</option> : null}
        {of.variants.map(({ name }, i) => (
          <option key={i} value={String(i)}>
            {line(name, 80)}
          </option>
        ))}
      </select>
      {variant === undefined ||
      (variant.field.type === "choice" && variant.field.choices.length === 1) ? null : (
        <div role="group" aria-label={line(variant.name, 80)}>
          <FieldOf
            key={at}
            id={`${id}-${at}`}
            label={line(variant.name, 80)}
            of={variant.field}
            value={value}
            onChange={onChange}
          />
        </div>
      )}
    </div>
  )
}

/** Items that have a field each; a list that comes with more is JSON. */
const mostItems = 200

/**
 * Returns names for the items of a list, each with its item for as long as that is there: a field holds what was typed in it, and
 * must not become the field of another item when one before it goes.
 */
const useNames = (count: number) => {
  const names = useRef<ReadonlyArray<number>>([])
  const next = useRef(0)
  if (names.current.length < count)
    names.current = [
      ...names.current,
      ...Array.from({ length: count - names.current.length }, () => next.current++)
    ]
  return {
    names: names.current,
    remove: (i: number) => {
      names.current = names.current.filter((_, k) => k !== i)
    }
  }
}

const List = (given: Given & { readonly of: Extract<Field, { type: "list" }> }) => {
  const { id, label, of, onChange, optional, value } = given
  const items: ReadonlyArray<unknown> = Array.isArray(value) ? value : []
  const [isLong] = useState(items.length > mostItems)
  const { names, remove } = useNames(items.length)
  if (isLong) return <Json {...given} />
  return (
    <div class="list" role="group" aria-label={label}>
      {items.map((item, i) => (
        <div key={names[i]} class="row item">
          <FieldOf
            id={`${id}-${names[i]}`}
            of={of.of}
            value={item}
            label={`item ${i + 1}`}
            onChange={(next) => onChange(items.map((held, k) => (k === i ? next : held)))}
          />
          <button
            type="button"
            class="small"
            aria-label={`remove item ${i + 1}`}
            onClick={() => {
              remove(i)
              const rest = items.filter((_, k) => k !== i)
              onChange(rest.length === 0 && optional === true ? undefined : rest)
            }}
          >
            ✕
          </button>
        </div>
      ))}
      <button
        type="button"
        class="small"
        id={id}
        aria-label={label === undefined ? undefined : `add to ${label}`}
        onClick={() => onChange([...items, initial(of.of, true)])}
      >
        add
      </button>
    </div>
  )
}

/** Whether there is anything to say: what must be there, and can be but one thing, is. */
const isOpen = ({ field, required }: Member): boolean =>
  !required || field.type !== "choice" || field.choices.length > 1

/** What a field says of itself: the description, between which numbers it is, and what it is when it is left out. */
const helpOf = (member: Member): string =>
  [
    boundedHelp(member),
    ...(member.otherwise === undefined || member.required
      ? []
      : [`${optionName(member.otherwise, 100)} when left out`])
  ]
    .filter((part) => part !== "")
    .join(", ")

const boundedHelp = ({ field, says }: Member): string => {
  if (field.type !== "number" || (field.least === undefined && field.most === undefined)) return says
  const range =
    field.least === undefined
      ? `at most ${field.most}`
      : field.most === undefined
        ? `at least ${field.least}`
        : `${field.least} to ${field.most}`
  const isSaid = [field.least, field.most].every(
    (bound) => bound === undefined || says.includes(String(bound))
  )
  return isSaid ? says : says === "" ? range : `${says}, ${range}`
}

const MemberOf = ({
  id,
  member,
  onChange,
  value
}: {
  readonly id: string
  readonly member: Member
  readonly value: unknown
  readonly onChange: (value: unknown) => void
}) => {
  const says = helpOf(member)
  const help = says === "" ? undefined : `${id}-help`
  const group = member.field.type === "object"
  const label = (
    <>
      {member.title === undefined ? null : (
        <>
          <bdi>{line(member.title, 120)}</bdi>{" "}
        </>
      )}
      <bdi class={member.title === undefined ? undefined : "quiet id"}>{line(member.name, 80)}</bdi>{" "}
      {member.required ? null : <span class="quiet">optional</span>}
    </>
  )
  const inner = (
    <>
      {help === undefined ? null : (
        <p id={help} class="quiet help">
          <bdi>{line(says, 400)}</bdi>
        </p>
      )}
      {group && value === undefined ? (
        <button type="button" class="small" id={id} onClick={() => onChange(initial(member.field, true))}>
          give it
        </button>
      ) : (
        <FieldOf
          id={id}
          of={member.field}
          label={member.field.type === "list" ? line(member.name, 80) : undefined}
          value={value}
          optional={!member.required}
          describedBy={help}
          onChange={onChange}
        />
      )}
      {group && value !== undefined && !member.required ? (
        <button type="button" class="small" onClick={() => onChange(undefined)}>
          leave it out
        </button>
      ) : null}
    </>
  )
  return group ? (
    <fieldset>
      <legend>{label}</legend>
      {inner}
    </fieldset>
  ) : (
    <div class="field">
      <label for={id}>{label}</label>
      {inner}
    </div>
  )
}

const FieldOf = (given: Given) => {
  const { id, of, onChange, value } = given
  switch (of.type) {
    case "text":
      return <TextInput {...given} of={of} />
    case "number":
      return <NumberInput {...given} of={of} />
    case "choice":
      return <Choice {...given} of={of} />
    case "list":
      return <List {...given} of={of} />
    case "union":
      return <Union {...given} of={of} />
    case "object":
      return (
        <div class="members">
          {of.members.filter(isOpen).map((member, i) => (
            <MemberOf
              key={member.name}
              // A name may have a space in it, and an id may not.
              id={`${id}-${i}`}
              member={member}
              value={memberOf(value, member.name)}
              onChange={(next) => onChange(withMember(value, member.name, next))}
            />
          ))}
        </div>
      )
    default:
      return <Json {...given} />
  }
}

export const SchemaForm = ({
  label,
  of,
  onChange,
  value
}: {
  readonly label: string
  readonly of: Field
  readonly value: unknown
  readonly onChange: (value: unknown) => void
}) => {
  const id = useId()
  // An object's fields and a list have labels of their own.
  return of.type === "object" || of.type === "list" ? (
    <div role="group" aria-label={label}>
      <FieldOf id={id} of={of} value={value} onChange={onChange} />
    </div>
  ) : (
    <div class="field">
      <label for={id}>{label}</label>
      <FieldOf id={id} of={of} value={value} onChange={onChange} />
    </div>
  )
}
