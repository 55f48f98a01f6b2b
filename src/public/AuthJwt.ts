/** Bearer tokens that are JWTs. */
export { type Algorithm, AuthJwtError, type Key, layer, type Options } from "../layers/auth/AuthJwt.js"
