/** Loaded into a node before anything else: its clock is off by `ARCP_TRIAL_SKEW_MS`. */
const skew = Number(process.env.ARCP_TRIAL_SKEW_MS ?? 0)
const RealDate = Date
const now = () => RealDate.now() + skew

globalThis.Date = class extends RealDate {
  constructor(...args) {
    if (args.length === 0) super(now())
    else super(...args)
  }
  static now() {
    return now()
  }
}
