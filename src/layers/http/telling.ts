/** Who and what is here: agents, sessions, nodes, and who asks. */
import * as Effect from "effect/Effect"
import { timestamp } from "../../protocol/EventText.js"
import { type Handler, type HandlerServices, jsonOnly, respond } from "./handling.js"

/** Tells which agents may be run. */
export const agents =
  ({ sessions }: HandlerServices): Handler =>
  ({ identity }) =>
    Effect.gen(function* () {
      yield* jsonOnly
      const agents = yield* sessions.agents(identity)
      return respond({
        agents: agents.map(({ versions, ...agent }) => ({
          ...agent,
          versions: versions.map(({ about, version }) => ({ version, ...about }))
        }))
      })
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
