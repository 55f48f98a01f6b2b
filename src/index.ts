/**
 * effect-arcp: the Effect-native runtime and client for ARCP. Everything here runs wherever JavaScript does;
 * what needs Node is in `effect-arcp/node`, the client for programs without Effect in `effect-arcp/promise`, what tests
 * need in `effect-arcp/testing`, JWT verification in `effect-arcp/jwt`, leased language models in `effect-arcp/ai` and
 * tools of MCP servers in `effect-arcp/mcp`.
 */

export * as Agent from "./public/Agent.js"
export * as ArcpClient from "./public/ArcpClient.js"
export * as Auth from "./public/Auth.js"
export * as ClientState from "./public/ClientState.js"
export * as Committed from "./public/Committed.js"
export * as CredentialProvisioner from "./public/CredentialProvisioner.js"
export * as CredentialProvisionerLiteLlm from "./public/CredentialProvisionerLiteLlm.js"
export * as CredentialStore from "./public/CredentialStore.js"
export * as CredentialStoreMemory from "./public/CredentialStoreMemory.js"
export * as Credentials from "./public/Credentials.js"
export * as DialerWebSocketGlobal from "./public/DialerWebSocketGlobal.js"
export * as Errors from "./public/Errors.js"
export * as Event from "./public/Event.js"
export * as EventLog from "./public/EventLog.js"
export * as Features from "./public/Features.js"
export * as IdGenerator from "./public/IdGenerator.js"
export * as Job from "./public/Job.js"
export * as Jobs from "./public/Jobs.js"
export * as Lease from "./public/Lease.js"
export * as Leased from "./public/Leased.js"
export * as Message from "./public/Message.js"
export * as Policy from "./public/Policy.js"
export * as Registry from "./public/Registry.js"
export * as Runtime from "./public/Runtime.js"
export * as RuntimeOptions from "./public/RuntimeOptions.js"
export * as Secrets from "./public/Secrets.js"
export * as Sessions from "./public/Sessions.js"
export * as Store from "./public/Store.js"
export * as StoreMemory from "./public/StoreMemory.js"
export * as Tools from "./public/Tools.js"
export * as Transport from "./public/Transport.js"
export * as TransportMemory from "./public/TransportMemory.js"
