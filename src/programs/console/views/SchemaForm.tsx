/** A form for a value of which a JSON Schema is known. */
import { useId, useState } from "preact/hooks"
import { type Field, initial, type Member, withMember } from "../model/schemaForm.js"
import { brief, line } from "../model/text.js"
import { field as memberOf } from "../model/values.js"

interface Given {
  readonly of: Field
  readonly value: unknown
  readonly onChange: (value: unknown) => void
  readonly id: string
  readonly describedBy?: string | undefined
}

const Json = ({ describedBy, id, onChange, value }: Given) => {
  const [text, setText] = useState(() => (value === undefined ? "" : (JSON.stringify(value, null, 2) ?? "")))
  const [problem, setProblem] = useState("")
  const change = (next: string) => {
    setText(next)
    try {
      onChange(next.trim() === "" ? undefined : (JSON.parse(next) as unknown))
      setProblem("")
    } catch (error) {
      setProblem(error instanceof Error ? line(error.message, 120) : "no JSON")
    }
  }
  return (
    <>
      <textarea
        id={id}
        class="code"
        rows={Math.min(14, Math.max(3, text.split("\n").length))}
        spellcheck={false}
        aria-invalid={problem !== ""}
        aria-describedby={problem === "" ? describedBy : `${id}-problem`}
        placeholder="JSON"
        value={text}
        onInput={(event) => change(event.currentTarget.value)}
      />
      {problem === "" ? null : (
        <p id={`${id}-problem`} class="wrong" role="alert">
          {problem}
        </p>
      )}
    </>
  )
}

const Choice = ({
  describedBy,
  id,
  of,
  onChange,
  value
}: Given & { readonly of: Extract<Field, { type: "choice" }> }) => {
  const at = of.choices.findIndex((choice) => JSON.stringify(choice) === JSON.stringify(value))
  return (
    <select
      id={id}
      aria-describedby={describedBy}
      value={String(at)}
      onChange={(event) => onChange(of.choices[Number(event.currentTarget.value)])}
    >
      {at === -1 ? <option value="-1">–</option> : null}
      {of.choices.map((choice, i) => (
        <option key={i} value={String(i)}>
          {brief(choice, 100)}
        </option>
      ))}
    </select>
  )
}

const List = ({ id, of, onChange, value }: Given & { readonly of: Extract<Field, { type: "list" }> }) => {
  const items: ReadonlyArray<unknown> = Array.isArray(value) ? value : []
  return (
    <div class="list" role="group">
      {items.map((item, i) => (
        <div key={i} class="row item">
          <FieldOf
            id={`${id}-${i}`}
            of={of.of}
            value={item}
            onChange={(next) => onChange(items.map((held, k) => (k === i ? next : held)))}
          />
          <button
            type="button"
            class="small"
            aria-label={`remove item ${i + 1}`}
            onClick={() => onChange(items.filter((_, k) => k !== i))}
          >
            ✕
          </button>
        </div>
      ))}
      <button
        type="button"
        class="small"
        id={id}
        onClick={() => onChange([...items, initial(of.of, true) ?? null])}
      >
        add
      </button>
    </div>
  )
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
  const help = member.says === "" ? undefined : `${id}-help`
  const group = member.field.type === "object"
  const label = (
    <>
      <bdi>{line(member.name, 80)}</bdi> {member.required ? null : <span class="quiet">optional</span>}
    </>
  )
  const inner = (
    <>
      {help === undefined ? null : (
        <p id={help} class="quiet help">
          <bdi>{line(member.says, 400)}</bdi>
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
          value={value}
          describedBy={help}
          onChange={(next) => onChange(!member.required && next === "" ? undefined : next)}
        />
      )}
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
  const { describedBy, id, of, onChange, value } = given
  switch (of.type) {
    case "text":
      return of.long ? (
        <textarea
          id={id}
          rows={4}
          aria-describedby={describedBy}
          value={typeof value === "string" ? value : ""}
          onInput={(event) => onChange(event.currentTarget.value)}
        />
      ) : (
        <input
          id={id}
          autocomplete="off"
          aria-describedby={describedBy}
          value={typeof value === "string" ? value : ""}
          onInput={(event) => onChange(event.currentTarget.value)}
        />
      )
    case "number":
      return (
        <input
          id={id}
          type="number"
          step={of.integer ? 1 : "any"}
          min={of.least}
          max={of.most}
          aria-describedby={describedBy}
          value={typeof value === "number" ? value : ""}
          onInput={(event) =>
            onChange(
              Number.isNaN(event.currentTarget.valueAsNumber) ? undefined : event.currentTarget.valueAsNumber
            )
          }
        />
      )
    case "boolean":
      return (
        <input
          id={id}
          type="checkbox"
          aria-describedby={describedBy}
          checked={value === true}
          onChange={(event) => onChange(event.currentTarget.checked)}
        />
      )
    case "choice":
      return <Choice {...given} of={of} />
    case "list":
      return <List {...given} of={of} />
    case "object":
      return (
        <div class="members">
          {of.members.map((member) => (
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
