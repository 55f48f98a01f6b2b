/** Sections of a page that a script writes. */

/** Returns a page with what stands between `<!-- name -->` and `<!-- /name -->` replaced. */
export const between = (page, name, text) => {
  const [begin, end] = [`<!-- ${name} -->`, `<!-- /${name} -->`]
  const from = page.indexOf(begin)
  const to = page.indexOf(end)
  if (from < 0 || to < from) throw new Error(`the page has no ${begin} … ${end}`)
  return `${page.slice(0, from + begin.length)}\n\n${text}\n\n${page.slice(to)}`
}
