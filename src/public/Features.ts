/** The features that both sides of a session negotiate (§6.2). */
export { all, type Feature } from "../protocol/Features.js"
