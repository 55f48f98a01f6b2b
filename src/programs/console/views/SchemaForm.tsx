/** A form for a value of which a JSON Schema is known. */
import { useId, useState } from "preact/hooks"
import {
  type Field,
  fits,
  initial,
  type Member,
  Unreadable,
  valueIn,
  withMember
} from "../model/schemaForm.js"
import { line, optionName } from "../model/text.js"
import { field as memberOf } from "../model/values.js"

interface Given {
  readonly of: Field
  readonly value: unknown
  readonly onChange: (value: unknown) => void
  readonly id: string
  /** What it is called, where no label says so. */
  readonly label?: string | undefined
  readonly describedBy?: string | undefined
  /** It may be left out. */
  readonly optional?: boolean | undefined
}

const textOf = (value: unknown): string =>
  value instanceof Unreadable ? value.text : value === undefined ? "" : (JSON.stringify(value, null, 2) ?? "")

const Json = ({ describedBy, id, label, onChange, value }: Given) => {
  const [text, setText] = useState(() => textOf(value))
  const problem = value instanceof Unreadable ? value.problem : ""
  return (
    <>
      <textarea
        id={id}
        class="code"
        aria-label={label}
        rows={Math.min(14, Math.max(3, text.split("\n").length))}
        spellcheck={false}
        aria-invalid={problem !== ""}
        aria-describedby={problem === "" ? describedBy : `${id}-problem`}
        placeholder="JSON"
        value={text}
        onInput={({ currentTarget: { value: next } }) => {
          setText(next)
          onChange(valueIn(next))
        }}
      />
      {problem === "" ? null : (
        <p id={`${id}-problem`} class="wrong" role="alert">
          {problem}
        </p>
      )}
    </>
  )
}

/** What was typed stays as it was typed while it says the same: put in anew, `0.0` would be `0` before `0.05` is there. */
const NumberInput = ({
  describedBy,
  id,
  label,
  of,
  onChange,
  value
}: Given & { readonly of: Extract<Field, { type: "number" }> }) => {
  const [text, setText] = useState("")
  const isSame = text !== "" && Number(text) === value
  return (
    <input
      id={id}
      type="number"
      step={of.integer ? 1 : "any"}
      min={of.least}
      max={of.most}
      aria-describedby={describedBy}
      aria-label={label}
      aria-invalid={Number.isNaN(value)}
      value={isSame ? text : typeof value === "number" && !Number.isNaN(value) ? String(value) : ""}
      onInput={({ currentTarget: { validity, value: typed, valueAsNumber } }) => {
        setText(typed)
        // What is typed and no number, as `1e`, is not the same as nothing.
        onChange(Number.isNaN(valueAsNumber) && !validity.badInput ? undefined : valueAsNumber)
      }}
    />
  )
}

const Choice = ({
  describedBy,
  id,
  label,
  of,
  onChange,
  optional,
  value
}: Given & { readonly of: Extract<Field, { type: "choice" }> }) => {
  const at = of.choices.findIndex((choice) => JSON.stringify(choice) === JSON.stringify(value))
  return (
    <select
      id={id}
      aria-label={label}
      aria-describedby={describedBy}
      value={String(at)}
      onChange={(event) => onChange(of.choices[Number(event.currentTarget.value)])}
    >
      {at === -1 || optional === true ? <option value="-1">–</option> : null}
      {of.choices.map((choice, i) => (
        <option key={i} value={String(i)}>
          {optionName(choice, 100)}
        </option>
      ))}
    </select>
  )
}

/** Which of several it is, and the field of that. */
const Union = ({
  describedBy,
  id,
  of,
  onChange,
  optional,
  value
}: Given & { readonly of: Extract<Field, { type: "union" }> }) => {
  const isLeftOut = value === undefined && optional === true
  // What is chosen stays so while nothing is in its field yet.
  const [chosen, setChosen] = useState(() =>
    isLeftOut
      ? -1
      : Math.max(
          0,
          of.variants.findIndex(({ field }) => fits(field, value))
        )
  )
  const at = chosen
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
          setChosen(next)
          onChange(field === undefined ? undefined : initial(field, true))
        }}
      >
        {optional === true ? <option value="-1">–</option> : null}
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

const List = (given: Given & { readonly of: Extract<Field, { type: "list" }> }) => {
  const { id, label, of, onChange, optional, value } = given
  const items: ReadonlyArray<unknown> = Array.isArray(value) ? value : []
  const [isLong] = useState(items.length > mostItems)
  if (isLong) return <Json {...given} />
  return (
    <div class="list" role="group" aria-label={label}>
      {items.map((item, i) => (
        <div key={i} class="row item">
          <FieldOf
            id={`${id}-${i}`}
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
        onClick={() => onChange([...items, initial(of.of, true) ?? null])}
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
  const { describedBy, id, label, of, onChange, value } = given
  // An empty box holds nothing: whoever means an empty text gives it as JSON.
  const typed = (event: { readonly currentTarget: { readonly value: string } }) =>
    onChange(event.currentTarget.value === "" ? undefined : event.currentTarget.value)
  switch (of.type) {
    case "text":
      return of.long ? (
        <textarea
          id={id}
          rows={4}
          aria-describedby={describedBy}
          aria-label={label}
          value={typeof value === "string" ? value : ""}
          onInput={typed}
        />
      ) : (
        <input
          id={id}
          autocomplete="off"
          aria-describedby={describedBy}
          aria-label={label}
          value={typeof value === "string" ? value : ""}
          onInput={typed}
        />
      )
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
          {of.members.filter(isOpen).map((member) => (
            <MemberOf
              key={member.name}
              id={`${id}-${member.name}`}
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
