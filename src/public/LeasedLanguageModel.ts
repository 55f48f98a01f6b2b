/** Language models that check the lease and count what they cost. */
export { leased, type Options, type Price, upstreamSpendCap } from "../layers/lease/LeasedLanguageModel.js"
