/** Bearer tokens that are JWTs, over `jose`. */
export * as AuthJwt from "./public/AuthJwt.js"
