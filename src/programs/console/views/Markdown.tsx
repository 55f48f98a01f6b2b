/** Markdown of others as elements. */
import type { ComponentChildren } from "preact"
import { useMemo } from "preact/hooks"
import { type Block, type Inline, parse } from "../model/markdown.js"
import { hostBehind, plain } from "../model/text.js"

/** A link to elsewhere: where it leads is said, unless it is what the link says. */
export const Outside = ({
  href,
  of,
  text
}: {
  readonly href: string
  readonly text: string
  /** The whole text, of which `text` may be a part. */
  readonly of: string
}) => {
  const host = hostBehind(of, href)
  return (
    <>
      <a href={href} target="_blank" rel="noopener noreferrer nofollow" title={href}>
        <bdi>{text}</bdi>
      </a>
      {host === "" ? null : <span class="quiet"> ({host})</span>}
    </>
  )
}

const Piece = ({ piece }: { readonly piece: Inline }) => {
  const text = plain(piece.text, 20_000)
  switch (piece.type) {
    case "code":
      return <code>{text}</code>
    case "strong":
      return <strong>{text}</strong>
    case "em":
      return <em>{text}</em>
    case "link":
      return <Outside href={piece.href} text={text} of={piece.text} />
    default:
      return <>{text}</>
  }
}

const pieces = (content: ReadonlyArray<Inline>): ComponentChildren =>
  content.map((piece, i) => <Piece key={i} piece={piece} />)

const Heading = ({ content, level }: { readonly level: number; readonly content: ReadonlyArray<Inline> }) => {
  // The page has headings of its own above these.
  const Tag = `h${Math.min(6, level + 2)}` as "h3" | "h4" | "h5" | "h6"
  return <Tag>{pieces(content)}</Tag>
}

const One = ({ block }: { readonly block: Block }) => {
  switch (block.type) {
    case "heading":
      return <Heading level={block.level} content={block.content} />
    case "paragraph":
      return <p dir="auto">{pieces(block.content)}</p>
    case "quote":
      return <blockquote dir="auto">{pieces(block.content)}</blockquote>
    case "code":
      return (
        <pre>
          <code>{plain(block.text, 100_000)}</code>
        </pre>
      )
    case "rule":
      return <hr />
    case "list": {
      const items = block.items.map((item, i) => (
        <li key={i} dir="auto">
          {pieces(item)}
        </li>
      ))
      const within = `in-${block.depth}`
      return block.start === undefined ? (
        <ul class={within}>{items}</ul>
      ) : (
        <ol class={within} start={block.start}>
          {items}
        </ol>
      )
    }
    case "table":
      return (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls is scrolled with the keyboard too
        <div class="scroll" tabIndex={0} role="region" aria-label="table">
          <table aria-label="a table of the text">
            <thead>
              <tr>
                {block.head.map((cell, i) => (
                  <th key={i} scope="col">
                    {pieces(cell)}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {block.rows.map((row, r) => (
                <tr key={r}>
                  {row.map((cell, i) => (
                    <td key={i} class={block.right[i] === true ? "number" : undefined}>
                      {pieces(cell)}
                    </td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )
  }
}

export const Markdown = ({ text }: { readonly text: string }) => {
  const { blocks, isWhole } = useMemo(() => parse(text), [text])
  return (
    <div class="markdown">
      {blocks.map((block, i) => (
        <One key={i} block={block} />
      ))}
      {isWhole ? null : <p class="quiet">The rest is in the download.</p>}
    </div>
  )
}
