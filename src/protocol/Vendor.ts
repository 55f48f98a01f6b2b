/** `x-vendor.<vendor>.<name>`, as event kinds, message types, extensions and capabilities use it (§5). */
export const vendorName = /^x-vendor\.[A-Za-z0-9_-]+\.[A-Za-z0-9._-]+$/
