/** A gateway with the key API of LiteLLM, for programs that mint keys of it. */
import { randomBytes } from "node:crypto"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"

/** One that runs in this process. */
export interface KeyGateway {
  /** What a runtime that uses it finds in its environment. */
  readonly env: Readonly<Record<string, string>>
  /** Aliases of the keys that are good, and the job of each. */
  readonly live: ReadonlyMap<string, string>
  /** Aliases, once for each time that they were to be deleted. */
  readonly deletions: ReadonlyArray<string>
  readonly stop: () => Promise<void>
}

/** Starts one. */
export const startKeyGateway = async (): Promise<KeyGateway> => {
  const live = new Map<string, string>()
  const deletions: Array<string> = []
  const answer = (path: string | undefined, body: string): object => {
    const asked = JSON.parse(body === "" ? "{}" : body)
    if (path === "/key/generate") {
      live.set(asked.key_alias, asked.metadata.job_id)
      return { key: `sk-${randomBytes(24).toString("hex")}`, key_alias: asked.key_alias }
    }
    for (const alias of asked.key_aliases) {
      deletions.push(alias)
      live.delete(alias)
    }
    return { deleted_keys: asked.key_aliases }
  }
  const server = createServer((request, response) => {
    let body = ""
    request.setEncoding("utf8").on("data", (text: string) => {
      body += text
    })
    request.on("end", () => response.end(JSON.stringify(answer(request.url, body))))
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const { port } = server.address() as AddressInfo
  return {
    env: {
      ARCP_LITELLM_URL: `http://127.0.0.1:${port}`,
      ARCP_LITELLM_KEY: "sk-master",
      ARCP_LITELLM_MODELS: "gpt-4o"
    },
    live,
    deletions,
    stop: () =>
      new Promise((resolve) => {
        server.closeAllConnections()
        server.close(() => resolve())
      })
  }
}
