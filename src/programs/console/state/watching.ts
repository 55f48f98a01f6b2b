/** Reading again and again what the server tells only when it is asked. */

/** Returns what reads, now and every so many milliseconds, until what it returns is called. A tab that nobody looks at asks for nothing. */
export const watching = (read: () => Promise<void>, every: number) => (): (() => void) => {
  void read()
  const timer = setInterval(() => {
    if (!document.hidden) void read()
  }, every)
  return () => clearInterval(timer)
}
