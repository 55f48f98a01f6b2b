/** Who is told when a job waits for somebody, has ended, or cannot go on. */
export {
  type EndedCall,
  type Handlers,
  type HookCall,
  HookError,
  Hooks,
  layer,
  layerNone,
  type ParkedCall,
  type WaitingCall
} from "../layers/jobs/Hooks.js"
