/**
 * The key set of an issuer, fetched from its address. Keys that are good stay so while the issuer cannot be reached, for a day; a
 * token signed with a key that is not among them has the set fetched again at once, and however many such tokens come,
 * it is fetched once a second at the most: who asks in between waits for the next time.
 */
import type * as jose from "jose"

/** The key set could not be fetched or read, or a key of it used: the runtime's problem, not the token's. */
export class KeySetUnavailable extends Error {
  constructor(cause: unknown) {
    super("the key set is not available", { cause })
  }
}

/** Milliseconds after which a key set is fetched again when it is used. */
const maxAge = 600_000

/** Milliseconds from the beginning of one fetch to that of the next. */
const spacing = 1_000

/** Milliseconds that a set which could not be renewed is used on before that is tried again. */
const patience = 30_000

/**
 * Milliseconds after which keys of a set that could not be renewed are good no more, since it was first tried: one may have been
 * taken back meanwhile.
 */
const goodFor = 86_400_000

/** Milliseconds that a fetch may take. */
const timeout = 5_000

/** Bytes of a key set that are read, unpacked. */
const mostBytes = 1024 * 1024

/** Fetches a key set, and gives up what is larger than one may be. */
const bounded: jose.FetchImplementation = async (url, options) => {
  const response = await fetch(url, options)
  let bytes = 0
  const counted = new TransformStream<Uint8Array, Uint8Array>({
    transform: (chunk, controller) => {
      bytes += chunk.length
      if (bytes <= mostBytes) controller.enqueue(chunk)
      else controller.error(new Error(`the key set has more than ${mostBytes} bytes`))
    }
  })
  return new Response(response.body?.pipeThrough(counted) ?? null, response)
}

/** Finds the keys of tokens. */
export interface RemoteKeys {
  readonly find: jose.JWTVerifyGetKey
  /** Has the set fetched again unless it was since `time`, a `performance.now()`; tells whether it was. */
  readonly renewed: (time: number) => Promise<boolean>
}

/** Returns what finds the keys of tokens. `stale` hears of a set that could not be renewed and is used on. */
export const remoteKeys = (
  { createRemoteJWKSet, customFetch, errors }: typeof jose,
  url: URL,
  stale: (cause: unknown) => void
): RemoteKeys => {
  // When it is fetched is decided here alone.
  const keySet = createRemoteJWKSet(url, {
    cacheMaxAge: Number.POSITIVE_INFINITY,
    cooldownDuration: Number.POSITIVE_INFINITY,
    timeoutDuration: timeout,
    [customFetch]: bounded
  })
  const now = () => performance.now()
  let fetchedAt = Number.NEGATIVE_INFINITY
  let triedAt = Number.NEGATIVE_INFINITY
  /** When the first fetch since then began that failed. */
  let failingSince = Number.POSITIVE_INFINITY
  let fetching: Promise<void> | undefined

  const fetch = async () => {
    const wait = triedAt + spacing - now()
    if (wait > 0) await new Promise<void>((resolve) => setTimeout(resolve, wait))
    const startedAt = now()
    triedAt = startedAt
    try {
      await keySet.reload()
    } catch (cause) {
      failingSince = Math.min(failingSince, startedAt)
      throw cause
    }
    fetchedAt = startedAt
    failingSince = Number.POSITIVE_INFINITY
  }
  /** Whoever asks while it is fetched waits for the same. */
  const reload = (): Promise<void> => {
    fetching ??= fetch().finally(() => {
      fetching = undefined
    })
    return fetching
  }
  const needed = () =>
    reload().catch((cause: unknown) => {
      throw new KeySetUnavailable(cause)
    })

  const renew = async (askedAt: number) => {
    if (keySet.jwks() === undefined || askedAt > failingSince + goodFor) await needed()
    else if (askedAt > fetchedAt + maxAge && askedAt > triedAt + patience) await reload().catch(stale)
  }

  const find: jose.JWTVerifyGetKey = async (header, token) => {
    const askedAt = now()
    await renew(askedAt)
    for (;;)
      try {
        return await keySet(header, token)
      } catch (error) {
        if (error instanceof errors.JWKSMultipleMatchingKeys || error instanceof errors.JOSENotSupported)
          throw error
        const isUnknown = error instanceof errors.JWKSNoMatchingKey
        // A key that is there and can be none is the issuer's fault, whatever is signed with it.
        if (fetchedAt >= askedAt) throw isUnknown ? error : new KeySetUnavailable(error)
        // One that had begun before this token came may not have its key yet: then there is another.
        await needed()
      }
  }

  return {
    find,
    renewed: async (time) => {
      // One that had begun before may not have its key yet, here too.
      while (fetchedAt < time)
        try {
          await reload()
        } catch (cause) {
          stale(cause)
          return false
        }
      return true
    }
  }
}
