/** The name of a node that is given none. */
import { randomBytes } from "node:crypto"
import { hostname } from "node:os"

/** Returns a name that no other node has: that of the machine, and something random. */
export const ownName = (): string => `${hostname()}-${randomBytes(4).toString("hex")}`
