import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import { type Frame, isTerminal } from "./support/Frame.js"
import { seeded } from "./support/random.js"
import { ownServers } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const own = ownServers()
const jobs = 4
const count = 250

describe("the transport drops at any moment", () => {
  const runs = [
    { seed: 1, store: "memory" },
    { seed: 2, store: "memory" },
    { seed: 3, store: "sqlite" }
  ]

  it.each(runs)("every event exactly once, in order: %j", { timeout: 240_000 }, async ({ seed, store }) => {
    verifies("drop-exactly-once", "resume-replay", "resume-rotation")
    const random = seeded(seed)
    const db = store === "sqlite" ? ["--db", join(own.directory(), "arcp.db")] : ["--memory"]
    // A back_pressure status would be one event more.
    const { url } = await own.start(...db, "--limit", "backPressureLag=100000")
    let client = await WireClient.open(url)
    const { session } = client
    const submits = Array.from({ length: jobs }, (_, index) => ({
      id: `drop-${seed}-${index}`,
      input: { count, delayMs: index % 2, startDelayMs: index * 20 },
      accepted: undefined as string | undefined
    }))
    const seen = new Map<number, Frame>()
    const note = () => {
      for (const frame of client.frames) if (frame.event_seq !== undefined) seen.set(frame.event_seq, frame)
      for (const submit of submits) {
        const answer = client.frames.find(
          ({ type, payload }) => type === "job.accepted" && payload.request_id === submit.id
        )
        if (answer === undefined) continue
        // Asked again, it is the same job.
        expect([undefined, answer.job_id]).toContain(submit.accepted)
        submit.accepted = answer.job_id
      }
    }
    const ended = () => [...seen.values()].filter(isTerminal).length
    // A client that lost the answer sends the same frame again.
    const submitMissing = () => {
      for (const { id, input, accepted } of submits) {
        if (accepted === undefined) client.submit("emit", input, {}, { id })
      }
    }
    submitMissing()
    for (let drops = 0; drops < 40; drops++) {
      const received = client.frames.length + random.below(30)
      // After so many frames, or at a moment when none comes.
      await client.next(() => client.frames.length >= received, 1 + random.below(40)).catch(() => undefined)
      client.drop()
      await client.closing()
      note()
      for (let lost = random.below(3); lost > 0; lost--) {
        const halfOpen = await WireClient.resuming(url, session)
        if (random.next() < 0.5) await halfOpen.next(() => false, random.below(3)).catch(() => undefined)
        halfOpen.drop()
        await halfOpen.closing()
        client = halfOpen
        note()
      }
      // Mostly from the newest event, now and then from an older one.
      const from = random.next() < 0.2 ? random.below(session.lastSeq + 1) : session.lastSeq
      client = await WireClient.resume(url, session, { from })
      submitMissing()
    }
    note()
    while (ended() < jobs) {
      await client.next(isTerminal)
      note()
    }
    await client.ping()
    note()

    const total = jobs * (count + 2)
    expect([...seen.keys()].sort((a, b) => a - b)).toEqual(Array.from({ length: total }, (_, n) => n + 1))
    const jobIds = submits.map(({ accepted }) => accepted)
    expect(new Set(jobIds).size).toBe(jobs)
    for (const id of jobIds) {
      const own = [...seen.values()].filter(({ job_id }) => job_id === id)
      expect(own.filter(({ payload }) => payload.kind === "log")).toHaveLength(count)
      expect(own.filter(isTerminal)).toHaveLength(1)
    }
  })
})
