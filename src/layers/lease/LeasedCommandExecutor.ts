/** Processes have no capability of their own, so a job cannot start any; what it may run is a tool. */
import * as CommandExecutor from "@effect/platform/CommandExecutor"
import { SystemError } from "@effect/platform/Error"
import { PermissionDenied } from "../../protocol/Errors.js"
import { type Leased, make } from "../../services/lease/Leased.js"

const refused = new SystemError({
  reason: "PermissionDenied",
  module: "Command",
  method: "spawn",
  description: "no lease covers processes",
  cause: new PermissionDenied({
    message: "jobs cannot start processes; register a tool that does, and grant it under tool.call"
  })
})

const refusing = CommandExecutor.makeExecutor(() => refused)

export const leased: Leased = make(CommandExecutor.CommandExecutor, () => refusing)
