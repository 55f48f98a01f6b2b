/** Names and addresses of this machine. */

/** Lower case, and an IPv6 address without its brackets. */
export const normalised = (host: string) => host.toLowerCase().replace(/^\[|\]$/g, "")

/** `localhost`, `127.0.0.0/8` or `::1`, with or without brackets. */
export const isLoopback = (host: string): boolean =>
  /^\[?(localhost|.+\.localhost|::1|(::ffff:)?127(\.\d{1,3}){3})\]?$/i.test(host)
