/**
 * effect-arcp: the Effect-native runtime and client for ARCP. Everything here runs wherever JavaScript does;
 * what needs Node is in `effect-arcp/node`, JWT verification in `effect-arcp/jwt`.
 */
export * as Agent from "./services/Agent.js"
export * as Job from "./services/Job.js"

export * as Auth from "./layers/Auth.js"
export * as Policy from "./layers/Policy.js"
export * as Registry from "./layers/Registry.js"
export * as Runtime from "./layers/Runtime.js"
export * as RuntimeOptions from "./layers/RuntimeOptions.js"
export * as Sessions from "./layers/Sessions.js"
export * as Jobs from "./layers/Jobs.js"
export * as Resume from "./layers/Resume.js"
export * as EventLog from "./layers/EventLog.js"
export * as IdGenerator from "./layers/IdGenerator.js"
export * as Secrets from "./layers/Secrets.js"
export * as Store from "./services/Store.js"
export * as StoreMemory from "./layers/StoreMemory.js"

export * as ArcpClient from "./layers/ArcpClient.js"
export * as Transport from "./services/Transport.js"
export * as TransportMemory from "./layers/TransportMemory.js"
export * as DialerWebSocketGlobal from "./layers/DialerWebSocketGlobal.js"

export * as Codec from "./protocol/Codec.js"
export * as Errors from "./protocol/Errors.js"
export * as Event from "./protocol/Event.js"
export * as Features from "./protocol/Features.js"
export * as Lease from "./protocol/Lease.js"
export * as Message from "./protocol/Message.js"
