/** Whether somebody still has the other end of an output. */
import { fstatSync, readSync } from "node:fs"
import { codeOf } from "../../services/runtime/fileProblem.js"

/**
 * Says whether what is written to a descriptor can still be read. Only a socket, which is what Node starts its children
 * with, tells before something is written to it; of anything else the answer is yes.
 */
export const hasReader = (fd: number): boolean => {
  try {
    // A socket whose peer has gone is at its end. One that nothing came from says that there is nothing yet.
    return !fstatSync(fd).isSocket() || readSync(fd, new Uint8Array(1)) > 0
  } catch (error) {
    return codeOf(error) === "EAGAIN"
  }
}
