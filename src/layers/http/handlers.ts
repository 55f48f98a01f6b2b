/** What answers each route. Whatever is asked of the runtime goes through a session, or is what a session would be told. */
import * as Effect from "effect/Effect"
import type { Name } from "./api.js"
import { answer, cancel, remove, removeAll } from "./changing.js"
import type { Handler, HandlerServices } from "./handling.js"
import { events, job, list, result } from "./reading.js"
import { submit } from "./submitting.js"
import { agents, me, nodes, sessions } from "./telling.js"

/** Gives back what it uses before the answer is sent, which may take its time. */
const whole =
  (handler: Handler): Handler =>
  (call) =>
    Effect.scoped(handler(call))

/** Returns what answers each route. */
export const make = (services: HandlerServices): Readonly<Record<Name, Handler>> => ({
  submit: whole(submit(services)),
  list: whole(list(services)),
  job: job(services),
  events: events(services),
  result: result(services),
  cancel: whole(cancel(services)),
  remove: whole(remove(services)),
  removeAll: whole(removeAll(services)),
  answer: whole(answer(services)),
  agents: whole(agents(services)),
  sessions: sessions(services),
  me: me(services),
  nodes: whole(nodes(services))
})
