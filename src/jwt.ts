/** Bearer tokens that are JWTs, over `jose`. */
export * as AuthJwt from "./layers/auth/AuthJwt.js"
