/** The boxes of a form: for JSON, for a text, for a number, and for one of several values. */
import { useState } from "preact/hooks"
import type { Field } from "../model/schemaForm.js"
import { optionName } from "../model/text.js"
import { numberIn, Unreadable, valueIn } from "../model/typed.js"

export interface Given {
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

export const Json = ({ describedBy, id, label, onChange, value }: Given) => {
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

export const TextInput = ({
  describedBy,
  id,
  label,
  of,
  onChange,
  value
}: Given & { readonly of: Extract<Field, { type: "text" }> }) => {
  const text = typeof value === "string" ? value : ""
  // A box of one line would take the others away.
  const [isLong] = useState(of.long || /[\n\r]/.test(text))
  const given = {
    id,
    "aria-describedby": describedBy,
    "aria-label": label,
    value: text,
    // An empty box holds nothing: whoever means an empty text gives it as JSON.
    onInput: ({ currentTarget }: { readonly currentTarget: { readonly value: string } }) =>
      onChange(currentTarget.value === "" ? undefined : currentTarget.value)
  }
  return isLong ? <textarea {...given} rows={4} /> : <input {...given} autocomplete="off" />
}

/** The beginning of a number; a browser does not say what it is. */
const notANumber = new Unreadable("", "needs a number", "needs a number")

/** What was typed stays as it was typed while it says the same: put in anew, `0.0` would be `0` before `0.05` is there. */
export const NumberInput = ({
  describedBy,
  id,
  label,
  of,
  onChange,
  value
}: Given & { readonly of: Extract<Field, { type: "number" }> }) => {
  const [text, setText] = useState("")
  const isSame = text !== "" && Number(text) === value
  const held = value instanceof Unreadable ? value.text : typeof value === "number" ? String(value) : ""
  return (
    <input
      id={id}
      type="number"
      step={of.integer ? 1 : "any"}
      min={of.least}
      max={of.most}
      aria-describedby={describedBy}
      aria-label={label}
      aria-invalid={value instanceof Unreadable}
      value={isSame ? text : held}
      onInput={({ currentTarget: { validity, value: typed } }) => {
        setText(typed)
        // What is typed and no number, as `1e`, is not the same as nothing.
        onChange(typed !== "" ? numberIn(typed) : validity.badInput ? notANumber : undefined)
      }}
    />
  )
}

export const Choice = ({
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
