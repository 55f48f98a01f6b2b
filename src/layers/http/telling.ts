/** Who and what is here: agents, sessions, nodes, and who asks. */
import * as Effect from "effect/Effect"
import { timestamp } from "../../protocol/EventText.js"
import { describedAgents } from "../../protocol/Features.js"
import { isRecord, membersOf } from "../../protocol/Json.js"
import { type Handler, type HandlerServices, jsonOnly, respond } from "./handling.js"

/** An agent of the inventory, with what is known of each version. */
const agent = (entry: unknown) => {
  if (!isRecord(entry)) return { name: String(entry), versions: [] }
  const about = entry[describedAgents]
  const versions: ReadonlyArray<unknown> = Array.isArray(entry["versions"]) ? entry["versions"] : []
  return {
    name: entry["name"],
    ...(entry["default"] === undefined ? {} : { default: entry["default"] }),
    versions: versions.map((version) => ({
      version,
      ...membersOf(membersOf(about)[String(version)])
    }))
  }
}

/** Tells which agents may be run. */
export const agents =
  (_services: HandlerServices): Handler =>
  ({ line }) =>
    Effect.gen(function* () {
      yield* jsonOnly
      return respond({ agents: (yield* line).agents.map(agent) })
    })

/** Sessions that are told. */
const mostSessions = 1_000

/** Tells who is connected, or away. */
export const sessions =
  ({ sessions }: HandlerServices): Handler =>
  ({ identity }) =>
    Effect.gen(function* () {
      yield* jsonOnly
      const all = yield* sessions.list(identity)
      const newest = [...all].sort((a, b) => b.createdAt - a.createdAt).slice(0, mostSessions)
      return respond({
        sessions: newest.map(({ createdAt, isConnected, lag, lastSeenAt, principal, sessionId }) => ({
          session_id: sessionId,
          principal,
          state: isConnected ? "connected" : "away",
          created_at: timestamp(createdAt),
          last_seen_at: timestamp(lastSeenAt),
          ...(lag === undefined ? {} : { lag })
        })),
        total: all.length
      })
    })

/** Tells whose the token is. */
export const me =
  (_services: HandlerServices): Handler =>
  ({ identity: { agents: mayUse, expiresAt, principal } }) =>
    Effect.gen(function* () {
      yield* jsonOnly
      return respond({
        principal,
        ...(mayUse === undefined ? {} : { agents: mayUse }),
        ...(expiresAt === undefined ? {} : { expires_at: timestamp(expiresAt) })
      })
    })

/** Tells which nodes share the store. */
export const nodes =
  ({ sessions }: HandlerServices): Handler =>
  ({ identity }) =>
    Effect.gen(function* () {
      yield* jsonOnly
      const listed = yield* sessions.nodes(identity)
      return respond({
        nodes: listed.map(
          ({ address, isAlive, isSelf, jobs, name, sessions: held, silentFor, startedAt, version }) => ({
            name,
            self: isSelf,
            state: isAlive ? "alive" : "gone",
            ...(address === undefined ? {} : { address }),
            version,
            started_at: timestamp(startedAt),
            silent_ms: Math.round(silentFor),
            jobs,
            sessions: held
          })
        )
      })
    })
