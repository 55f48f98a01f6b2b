/** From the first frame of a connection to an open or resumed session (§6.1–6.3). */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"
import type * as Tracer from "effect/Tracer"
import * as Codec from "../../protocol/Codec.js"
import { type ArcpError, InvalidRequest } from "../../protocol/Errors.js"
import * as Features from "../../protocol/Features.js"
import type * as Message from "../../protocol/Message.js"
import { cut } from "../../protocol/Text.js"
import { byteLength } from "../../protocol/Utf8.js"
import * as Vendor from "../../protocol/Vendor.js"
import type { Registry } from "../../services/agents/Registry.js"
import type { Identity } from "../../services/auth/Auth.js"
import type { Policy } from "../../services/auth/Policy.js"
import type { Options } from "../../services/runtime/RuntimeOptions.js"
import * as Tracing from "../../services/runtime/Tracing.js"
import type { Connection, Inbound, Peer } from "../../services/transport/Transport.js"
import { envelopeBytes } from "../jobs/fitting.js"
import { usable } from "./agents.js"
import { sound } from "./boundary.js"
import type { LoginRefusal, Logins } from "./Logins.js"
import type { ResumeRequest } from "./Resume.js"

/** A hello that is accepted: nothing is opened yet, and nothing but the store can refuse it any more. */
export interface Greeted {
  readonly identity: Identity
  readonly version: Codec.Version
  readonly features: ReadonlyArray<Features.Feature>
  /** See `Connection.exposed`. */
  readonly exposed: boolean
  readonly resume: ResumeRequest | undefined
  /** The span under which the client said hello, when it told (§11). */
  readonly parentSpan: Tracer.AnySpan | undefined
  readonly welcome: (sessionId: string, token: Redacted.Redacted) => Message.Welcome
  /** Refuses it after all. */
  readonly refuse: (error: ArcpError) => HelloRefusal
}

/** Refused: the error, in the version that the peer speaks as far as it is known. */
export class HelloRefusal {
  readonly _tag = "Refusal"
  constructor(
    readonly error: ArcpError,
    readonly version: Codec.Version,
    readonly requestId?: string | undefined,
    /** By which scheme it was to be authenticated. */
    readonly scheme?: string | undefined,
    /** Milliseconds after which a failed login is to be answered. */
    readonly wait = 0
  ) {}
}

/** What a hello is decided by. */
export interface HandshakeServices {
  readonly logins: Logins
  readonly registry: Registry["Type"]
  readonly policy: Policy["Type"]
  readonly options: Options
  /** The features this runtime speaks. */
  readonly offered: ReadonlyArray<Features.Feature>
}

/** Returns what the transport knows of whoever says hello. */
const peerOf = ({ evidence, kind, remote }: Connection): Effect.Effect<Peer> =>
  evidence === undefined
    ? Effect.succeed({ kind, remote })
    : Effect.map(evidence, (shown) => ({ ...shown, kind, remote }))

/** What is said of a client that does not see the credentials of its jobs. */
const notShown =
  "a client that asked for credentials of its jobs is not sent them: it has come over a network without TLS, as far as is known here. " +
  "If that ends at a proxy, trust it (--trust-proxy) and have it send X-Forwarded-Proto. This is said once"

/** Returns what decides the first frame of a connection, the hello (§6.1, §6.2). */
export const make = (services: HandshakeServices) => {
  let isSaid = false
  /** A job has its credentials all the same, so that nothing else says why its client does not. */
  const saying = ({ kind, remote }: Connection, { exposed, features }: Greeted) =>
    Effect.suspend(() => {
      if (isSaid || !exposed || !features.includes("provisioned_credentials")) return Effect.void
      isSaid = true
      return Effect.annotateLogs(Effect.logWarning(notShown), { peer: `${kind} ${remote}` })
    })
  return (connection: Connection, frame: Inbound): Effect.Effect<Greeted, HelloRefusal> =>
    sound(
      peerOf(connection).pipe(
        Effect.flatMap((peer) => greet(services, connection, peer, frame)),
        Effect.tap((greeted) => saying(connection, greeted))
      ),
      "session.hello"
    ).pipe(Effect.mapError((error) => (error._tag === "Refusal" ? error : new HelloRefusal(error, "1.1"))))
}

/** The share of a welcome's frame that the descriptions of all agents may have. */
const describedShare = 1 / 4

/**
 * Returns what a welcome says of the agents: as much as was negotiated, and as fits into one frame. Agents that it does not
 * name can be used all the same.
 */
const inventory = (
  registry: Registry["Type"],
  agents: ReadonlyArray<Message.AgentEntry>,
  features: ReadonlyArray<Features.Feature>,
  maxBytes: number
): NonNullable<Message.Welcome["capabilities"]>["agents"] => {
  const size = (said: unknown) => byteLength(JSON.stringify(said)) + 1
  let left = maxBytes - 2 * envelopeBytes
  const within = <Said>(said: ReadonlyArray<Said>) =>
    said.filter((each) => {
      left -= size(each)
      return left >= 0
    })
  if (!features.includes("agent_versions")) return within(agents.map((agent) => agent.name))
  const named = within(agents)
  if (!features.includes(Features.describedAgents)) return named
  left = Math.min(left, maxBytes * describedShare)
  return named.map((agent) => {
    const described = { [Features.describedAgents]: registry.described.get(agent.name) }
    left -= size(described)
    return left < 0 ? agent : { ...agent, ...described }
  })
}

/** A hello that was read: what it asks for, and how it is refused. */
interface HelloFrame {
  readonly version: Codec.Version
  readonly payload: Message.Hello
  readonly parentSpan: Tracer.AnySpan | undefined
  readonly refuse: (error: ArcpError | LoginRefusal) => HelloRefusal
}

/** Reads the first frame of a connection. Fails when it is no hello. */
const read = (frame: Inbound): Either.Either<HelloFrame, HelloRefusal> => {
  if (typeof frame !== "string")
    return Either.left(new HelloRefusal(new InvalidRequest({ message: frame.reason }), "1.1"))
  const decoded = Codec.decodeClient(frame)
  if (Either.isLeft(decoded)) {
    const { id, message } = decoded.left
    return Either.left(new HelloRefusal(new InvalidRequest({ message }), "1.1", id))
  }
  const message = decoded.right
  const version = message.arcp as Codec.Version
  const said = message.type === "session.hello" ? message.payload.auth?.scheme : undefined
  const scheme = said && cut(said, 32)
  const refuse = (error: ArcpError | LoginRefusal) =>
    error._tag === "LoginRefusal"
      ? new HelloRefusal(error.error, version, message.id, scheme, error.wait)
      : new HelloRefusal(error, version, message.id, scheme)
  if (message.type !== "session.hello")
    return Either.left(
      refuse(new InvalidRequest({ message: "the first message of a connection is session.hello" }))
    )
  const parentSpan =
    message.trace_id === undefined || message.parentSpan === undefined
      ? undefined
      : Tracing.external(message.trace_id, message.parentSpan)
  return Either.right({ version, payload: message.payload, parentSpan, refuse })
}

/** Returns who says hello, as `Auth` has it. */
const authenticated = (
  { logins }: HandshakeServices,
  { client }: Connection,
  peer: Peer,
  shown: Message.Hello["auth"]
): Effect.Effect<Identity, LoginRefusal | InvalidRequest> => {
  if (shown !== undefined && shown.scheme !== "bearer")
    return new InvalidRequest({ message: "payload.auth.scheme: this runtime takes bearer tokens" })
  const token = shown?.token
  return logins(client, {
    peer,
    token: token === undefined || token === "" ? undefined : Redacted.make(token)
  })
}

/** Returns what makes the welcome of a session that has these features and may use these agents. */
const welcoming =
  (
    { options, registry }: HandshakeServices,
    features: ReadonlyArray<Features.Feature>,
    agents: ReadonlyArray<Message.AgentEntry>
  ): Greeted["welcome"] =>
  (sessionId, token) => ({
    session_id: sessionId,
    runtime: { name: options.name, version: options.version },
    resume_token: Redacted.value(token),
    resume_window_sec: Duration.toSeconds(options.resumeWindow),
    ...(features.includes("heartbeat")
      ? { heartbeat_interval_sec: Duration.toSeconds(options.heartbeatInterval) }
      : {}),
    capabilities: {
      encodings: ["json"],
      features,
      agents: inventory(registry, agents, features, options.maxOutboundFrameBytes),
      [Vendor.limits]: {
        frame_bytes: options.maxFrameBytes,
        outbound_frame_bytes: options.maxOutboundFrameBytes
      }
    }
  })

const greet = (
  services: HandshakeServices,
  connection: Connection,
  peer: Peer,
  frame: Inbound
): Effect.Effect<Greeted, HelloRefusal> => {
  const { offered } = services
  const hello = read(frame)
  if (Either.isLeft(hello)) return Effect.fail(hello.left)
  const { parentSpan, payload, refuse, version } = hello.right
  const { resume } = payload
  const accepted = Effect.gen(function* () {
    const identity = yield* authenticated(services, connection, peer, payload.auth)
    const features = Features.negotiate(offered, payload.capabilities?.features)
    const agents = yield* usable(services, identity)
    return {
      identity,
      version,
      features,
      exposed: connection.exposed === true,
      resume:
        resume === undefined
          ? undefined
          : {
              sessionId: resume.session_id,
              token: Redacted.make(resume.resume_token),
              lastEventSeq: resume.last_event_seq
            },
      parentSpan,
      refuse,
      welcome: welcoming(services, features, agents)
    } satisfies Greeted
  })
  return Effect.mapError(sound(accepted, "session.hello"), refuse)
}
