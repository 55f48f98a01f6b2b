/** The sets of agents that come with the package, by the names that `--agents` takes for them. */
const shipped = ["demo", "conformance"] as const

export type Shipped = (typeof shipped)[number]

export const isShipped = (name: string): name is Shipped => shipped.some((known) => known === name)
