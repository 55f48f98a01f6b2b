/** Where in the console somebody is: all of it is in the fragment of the address, so it can be kept, sent and gone back to. */

import { type JobStatus, jobStatuses } from "../../../protocol/JobStatus.js"

/** Which jobs are shown. */
export interface Filters {
  readonly status: ReadonlyArray<JobStatus>
  readonly agent: string
  /** Whose jobs; empty: everybody's whose one may see. */
  readonly principal: string
  /** `1h`, `24h`, `7d`; empty: all. */
  readonly since: string
  readonly waiting: boolean
}

export type Route =
  | { readonly view: "jobs"; readonly filters: Filters }
  /** `event`: of which the state is shown; the newest when there is none. */
  | { readonly view: "job"; readonly jobId: string; readonly tab: string; readonly event: number | undefined }
  | { readonly view: "submit"; readonly agent: string; readonly again: string }
  | { readonly view: "runtime" }

export const noFilters: Filters = { status: [], agent: "", principal: "", since: "", waiting: false }

const isStatus = (text: string): text is JobStatus => jobStatuses.some((status) => status === text)

/** Reads the fragment of an address. */
export const parse = (hash: string): Route => {
  const [path = "", query = ""] = hash.replace(/^#/, "").split("?", 2)
  const params = new URLSearchParams(query)
  const [, view = "", id = ""] = path.split("/")
  if (view === "runtime") return { view }
  if (view === "submit") return { view, agent: params.get("agent") ?? "", again: params.get("again") ?? "" }
  if (view === "job" && id !== "") {
    const event = Number(params.get("event") ?? Number.NaN)
    let jobId = id
    try {
      jobId = decodeURIComponent(id)
    } catch {
      // As it is.
    }
    return {
      view,
      jobId,
      tab: params.get("tab") ?? "",
      event: Number.isInteger(event) && event > 0 ? event : undefined
    }
  }
  return {
    view: "jobs",
    filters: {
      status: (params.get("status") ?? "").split(",").filter(isStatus),
      agent: params.get("agent") ?? "",
      principal: params.get("principal") ?? "",
      since: /^\d{1,4}[hd]$/.test(params.get("since") ?? "") ? (params.get("since") ?? "") : "",
      waiting: params.get("waiting") === "yes"
    }
  }
}

const query = (entries: Readonly<Record<string, string>>): string => {
  const params = new URLSearchParams(Object.entries(entries).filter(([, value]) => value !== "")).toString()
  return params === "" ? "" : `?${params.replaceAll("%2C", ",").replaceAll("%40", "@")}`
}

/** Returns the fragment of an address. */
export const format = (route: Route): string => {
  switch (route.view) {
    case "jobs": {
      const { agent, principal, since, status, waiting } = route.filters
      return `#/jobs${query({ status: status.join(","), agent, principal, since, waiting: waiting ? "yes" : "" })}`
    }
    case "job":
      return `#/job/${encodeURIComponent(route.jobId)}${query({ tab: route.tab, event: route.event === undefined ? "" : String(route.event) })}`
    case "submit":
      return `#/submit${query({ agent: route.agent, again: route.again })}`
    case "runtime":
      return "#/runtime"
  }
}

/** Returns the milliseconds of `24h` or `7d`. */
export const sinceMs = (since: string): number =>
  Number.parseInt(since, 10) * (since.endsWith("d") ? 86_400_000 : 3_600_000)
