/** A store of which half fails: whoever asks over HTTP is told so, and in the end has everything, once. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as StoreMemory from "../../../src/layers/store/StoreMemory.js"
import { flakyStore } from "../../support/flakyStore.js"
import { type Asking, sentOf, served } from "./served.js"

type Ask = Effect.Effect.Success<ReturnType<typeof served>>["ask"]

/** Asks until it is answered with what was asked for; every other answer is one that says to come again. */
const until = async (ask: Ask, path: string, asking?: Asking): Promise<string> => {
  for (let tries = 0; tries < 200; tries++) {
    const answer = await ask(path, asking)
    const text = await answer.text()
    expect(text).not.toMatch(/secret|\.[jt]s:\d+/)
    if (answer.ok) return text
    expect([answer.status, answer.headers.get("retry-after")], text).toEqual([503, "1"])
    expect(JSON.parse(text)).toMatchObject({ code: "INTERNAL_ERROR", retryable: true })
  }
  throw new Error(`${path} is not answered`)
}

const count = 60

/** Follows a job through whatever ends its stream; gives the numbers of what came, and its end. */
const followed = async (ask: Ask, id: string) => {
  const seqs: Array<number> = []
  for (let tries = 0; tries < 200; tries++) {
    const headers = { "last-event-id": `${seqs.at(-1) ?? 0}` }
    for (const { data, event, id: seq } of sentOf(await until(ask, `/v1/jobs/${id}/events`, { headers }))) {
      if (event === "problem") expect(data.problem).toMatchObject({ status: 503 })
      if (seq !== undefined) seqs.push(seq)
      if (event === "job.result" || event === "job.error") return { seqs, end: event, data }
    }
  }
  throw new Error(`${id} does not end`)
}

describe("a store of which half fails", () => {
  it.scopedLive("loses no event and no job of who asks over HTTP, and says what is the matter", () =>
    Effect.gen(function* () {
      const { faults, layer } = flakyStore(StoreMemory.layer(), 7)
      const { ask } = yield* served({ store: layer })
      faults.share = 0.5
      yield* Effect.promise(async () => {
        const jobs = await Promise.all(
          Array.from({ length: 6 }, async (_, i) => {
            const accepted = await until(ask, "/v1/jobs", {
              json: { agent: "emit", input: { count, delayMs: 1 } },
              headers: { "idempotency-key": `job ${i}` }
            })
            const { job_id } = JSON.parse(accepted) as { readonly job_id: string }
            return { job_id, ...(await followed(ask, job_id)) }
          })
        )
        for (const { data, end, seqs } of jobs) {
          expect([end, data.payload.result]).toEqual(["job.result", { count }])
          expect(seqs).toEqual(Array.from({ length: seqs.length }, (_, i) => i + 1))
          expect(seqs.length).toBeGreaterThan(count)
        }
        const listed = JSON.parse(await until(ask, "/v1/jobs")) as { readonly jobs: ReadonlyArray<unknown> }
        expect(listed.jobs).toHaveLength(jobs.length)
      })
      expect(faults.failed).toBeGreaterThan(20)
      faults.share = 0
    })
  )

  it.scopedLive("is not asked for who has too many streams already", () =>
    Effect.gen(function* () {
      const { faults, layer } = flakyStore(StoreMemory.layer(), 3)
      const { ask } = yield* served({ store: layer, gateway: { maxStreamsPerPrincipal: 1 } })
      yield* Effect.promise(async () => {
        const accepted = await ask("/v1/jobs", { json: { agent: "sleep", input: { ms: 60_000 } } })
        const { job_id } = (await accepted.json()) as { readonly job_id: string }
        const first = await ask(`/v1/jobs/${job_id}/events`)
        faults.share = 1
        for (const what of ["events", "result"])
          expect((await ask(`/v1/jobs/${job_id}/${what}`)).status, what).toBe(429)
        faults.share = 0
        await first.body?.cancel()
      })
    })
  )
})
