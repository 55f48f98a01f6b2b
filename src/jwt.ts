/** Bearer tokens that are JWTs, over `jose`. */
export * as AuthJwt from "./layers/AuthJwt.js"
