/** A store that is forgotten on exit. */
export { layer } from "../layers/store/StoreMemory.js"
