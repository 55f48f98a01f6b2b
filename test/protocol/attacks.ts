/**
 * Ways to reach what a lease does not grant, and honest operations that look like them: what each comes to. Data, so
 * that every place that enforces leases can be held to it.
 */
export interface Attack {
  readonly name: string
  readonly capability: string
  readonly patterns: ReadonlyArray<string>
  readonly target: string
  readonly verdict: "allowed" | "denied"
}

type Row = readonly [name: string, target: string, verdict: Attack["verdict"]]

const under = (
  capability: string,
  patterns: ReadonlyArray<string>,
  rows: ReadonlyArray<Row>
): ReadonlyArray<Attack> =>
  rows.map(([name, target, verdict]) => ({ name, capability, patterns, target, verdict }))

const paths: ReadonlyArray<Attack> = [
  ...under(
    "fs.read",
    ["/src/**"],
    [
      ["a file below", "/src/a/b.ts", "allowed"],
      ["the directory itself", "/src", "allowed"],
      ["traversal out", "/src/../etc/passwd", "denied"],
      ["traversal out, deep", "/src/a/b/../../../etc/passwd", "denied"],
      ["traversal out and in again", "/src/../src/a", "allowed"],
      ["traversal that stays inside", "/src/a/../b", "allowed"],
      ["traversal to the root", "/src/..", "denied"],
      ["traversal above the root into it", "/../../../src/a", "allowed"],
      ["traversal above the root out of it", "/../../../etc/passwd", "denied"],
      ["dot segments", "/./src/./a/.", "allowed"],
      ["dot segments before traversal", "/src/./.././etc/passwd", "denied"],
      ["empty segments", "//src///a", "allowed"],
      ["empty segments before traversal", "/src//../etc/passwd", "denied"],
      ["a trailing slash", "/src/a/", "allowed"],
      ["three dots are a name", "/src/.../a", "allowed"],
      ["a name that begins with dots", "/src/..a", "allowed"],
      ["dots and a space are a name", "/src/.. /etc", "allowed"],
      ["percent signs are characters: encoded dots are names", "/src/%2e%2e/etc/passwd", "allowed"],
      ["percent signs are characters: an encoded slash is a name", "/src/..%2fetc%2fpasswd", "allowed"],
      ["encoded name of the directory", "/%73rc/a", "denied"],
      ["a name that begins like the directory", "/srcs/a", "denied"],
      ["a name that ends like the directory", "/a/src/b", "denied"],
      ["another case", "/SRC/a", "denied"],
      ["NUL at the end", "/src/a\0", "denied"],
      ["NUL before an extension", "/src/a\0.ts", "denied"],
      ["NUL before traversal", "/src/\0/../../etc/passwd", "denied"],
      ["a newline", "/src/a\nb", "denied"],
      ["a C1 control character", "/src/a\u0085b", "denied"],
      ["backslash traversal", "/src\\..\\..\\etc\\passwd", "denied"],
      ["a backslash inside a name", "/src/a\\b", "denied"],
      ["a relative path", "src/a", "denied"],
      ["a relative path with a dot", "./src/a", "denied"],
      ["a home directory", "~/src/a", "denied"],
      ["a file URL", "file:///src/a", "denied"],
      ["a drive letter", "C:/src/a", "denied"],
      ["a network share", "\\\\host\\src\\a", "denied"],
      ["an empty path", "", "denied"],
      ["the longest path", `/src/${"a".repeat(4091)}`, "allowed"],
      ["an overlong path", `/src/${"a".repeat(4092)}`, "denied"],
      ["an overlong path that would be short", `/src/${"./".repeat(2050)}a`, "denied"],
      ["a lone surrogate", "/src/\ud800", "denied"],
      ["a surrogate pair", "/src/\u{1f600}", "allowed"],
      ["a division slash", "/src\u2215..\u2215etc", "denied"],
      ["a fullwidth solidus is no separator", "/src/..\uff0f..\uff0fetc", "allowed"]
    ]
  ),
  ...under(
    "fs.read",
    ["/src/*", "/data/*.json", "/caf\u00e9/**"],
    [
      ["* within a segment", "/src/a", "allowed"],
      ["* does not cross /", "/src/a/b", "denied"],
      ["* and the directory itself", "/src", "denied"],
      ["* and the directory with a slash", "/src/", "denied"],
      ["* is empty", "/data/.json", "allowed"],
      ["* and an extension behind another directory", "/data/a/b.json", "denied"],
      ["* and an extension before NUL", "/data/passwd\0.json", "denied"],
      ["* and another extension", "/data/a.json5", "denied"],
      ["a composed character as written", "/caf\u00e9/a", "allowed"],
      ["the same, decomposed, is another name", "/cafe\u0301/a", "denied"]
    ]
  ),
  ...under(
    "fs.write",
    ["/a/**/z"],
    [
      ["** is no segment", "/a/z", "allowed"],
      ["** is many", "/a/b/c/d/z", "allowed"],
      ["what follows ** is anchored", "/a/b/z/c", "denied"],
      ["** does not stand for part of a name", "/a/bz", "denied"]
    ]
  ),
  ...under(
    "fs.write",
    ["/a**"],
    [
      ["** in a longer segment is *", "/ab", "allowed"],
      ["** in a longer segment does not cross /", "/a/b", "denied"]
    ]
  ),
  ...under("fs.read", ["**"], [["** is everything", "/etc/passwd", "allowed"]]),
  ...under("fs.read", ["/*"], [["/* is not the root itself", "/", "denied"]]),
  ...under("fs.read", ["src/**"], [["a relative pattern matches nothing", "/src/a", "denied"]]),
  ...under("fs.read", ["/src/*/../../etc/**"], [["a pattern with .. behind a wildcard", "/etc/a", "denied"]]),
  ...under("fs.read", ["/src/../etc/**"], [["a pattern is resolved too", "/etc/a", "allowed"]]),
  ...under("fs.read", ["/[ab]/?"], [["nothing else is special", "/a/b", "denied"]]),
  ...under("fs.read", ["/[ab]/?"], [["nothing else is special: literal", "/[ab]/?", "allowed"]]),
  ...under("fs.read", ["/(a+)+$"], [["a pattern is no regular expression", "/aaaa", "denied"]]),
  ...under(
    "fs.read",
    [`/${"*a".repeat(300)}b`],
    [["a pattern made to be slow", `/${"a".repeat(4000)}`, "denied"]]
  ),
  ...under(
    "fs.read",
    [`/${"**/a/".repeat(200)}b`],
    [["a pattern of many ** made to be slow", `/${"a/".repeat(2000)}c`, "denied"]]
  ),
  ...under("fs.write", [], [["no pattern", "/src/a", "denied"]])
]

const good = ["https://good.com/**"]
const urls: ReadonlyArray<Attack> = [
  ...under("net.fetch", good, [
    ["a page", "https://good.com/a/b?c=d#e", "allowed"],
    ["the origin", "https://good.com", "allowed"],
    ["upper case", "HTTPS://GOOD.COM/a", "allowed"],
    ["another scheme", "http://good.com/a", "denied"],
    ["a web socket", "wss://good.com/a", "denied"],
    ["the default port", "https://good.com:443/a", "allowed"],
    ["the default port with a zero", "https://good.com:0443/a", "allowed"],
    ["an empty port", "https://good.com:/a", "allowed"],
    ["another port", "https://good.com:444/a", "denied"],
    ["the default port of another scheme", "https://good.com:80/a", "denied"],
    ["a port that is none", "https://good.com:65536/a", "denied"],
    ["user-info", "https://good.com@evil.com/", "denied"],
    ["user-info before the good host", "https://evil.com@good.com/", "denied"],
    ["user-info with a password", "https://good.com:443@evil.com/", "denied"],
    ["empty user-info", "https://@good.com/", "denied"],
    ["an encoded @", "https://good.com%40evil.com/", "denied"],
    ["an @ in the path", "https://good.com/@evil.com", "allowed"],
    ["an @ behind ?", "https://evil.com?@good.com/", "denied"],
    ["an @ behind #", "https://evil.com#@good.com/", "denied"],
    ["a longer host", "https://good.com.evil.com/", "denied"],
    ["a host that ends like it", "https://evilgood.com/", "denied"],
    ["a subdomain", "https://a.good.com/", "denied"],
    ["a trailing dot", "https://good.com./a", "denied"],
    ["two dots", "https://good..com/a", "denied"],
    ["an ideographic full stop at the end", "https://good.com\u3002/a", "denied"],
    ["an ideographic full stop inside", "https://good\u3002com/a", "allowed"],
    ["a fullwidth letter", "https://\uff47ood.com/a", "allowed"],
    ["a soft hyphen", "https://go\u00adod.com/a", "allowed"],
    ["an encoded letter of the host", "https://%67ood.com/a", "allowed"],
    ["an encoded slash in the host", "https://evil.com%2f.good.com/", "denied"],
    ["an encoded NUL in the host", "https://good.com%00.evil.com/", "denied"],
    ["a Cyrillic o", "https://g\u043eod.com/a", "denied"],
    ["a backslash for a slash", "https:\\\\good.com\\a", "denied"],
    ["a backslash before @", "https://evil.com\\@good.com/a", "denied"],
    ["a backslash in the path", "https://good.com/a\\..\\b", "denied"],
    ["a tab in the scheme", "ht\ttps://good.com/", "denied"],
    ["a tab in the host", "https://good\t.com/", "denied"],
    ["a newline in the path", "https://good.com/a\nb", "denied"],
    ["CR LF and a header", "https://good.com/a\r\nHost: evil.com", "denied"],
    ["a space before", " https://good.com/", "denied"],
    ["a space behind", "https://good.com/a ", "denied"],
    ["a no-break space", "https://good.com/\u00a0", "denied"],
    ["NUL", "https://good.com/\0", "denied"],
    ["a lone surrogate", "https://good.com/\udc00", "denied"],
    ["no slashes", "https:good.com/a", "denied"],
    ["one slash", "https:/good.com/a", "denied"],
    ["three slashes", "https:///good.com/a", "denied"],
    ["no scheme", "//good.com/a", "denied"],
    ["only a path", "/a", "denied"],
    ["no host", "https://", "denied"],
    ["file:", "file:///etc/passwd", "denied"],
    ["file: with the host", "file://good.com/a", "denied"],
    ["data:", "data:text/plain,https://good.com/", "denied"],
    ["javascript:", "javascript://good.com/%0aalert(1)", "denied"],
    ["blob:", "blob:https://good.com/a", "denied"],
    ["ftp:", "ftp://good.com/a", "denied"],
    ["a URL in the path", "https://evil.com/https://good.com/a", "denied"],
    ["a percent sign that encodes nothing", "https://good.com/100%", "denied"],
    ["the longest URL", `https://good.com/${"a".repeat(8175)}`, "allowed"],
    ["an overlong URL", `https://good.com/${"a".repeat(8176)}`, "denied"],
    ["a URL that encoding makes overlong", `https://good.com/${"\u00e9".repeat(3000)}`, "denied"],
    ["an overlong host", `https://${"a.".repeat(4090)}good.com/`, "denied"]
  ]),
  ...under(
    "net.fetch",
    ["https://good.com/public/**"],
    [
      ["traversal", "https://good.com/public/../admin", "denied"],
      ["traversal that stays inside", "https://good.com/public/a/../b", "allowed"],
      ["traversal from outside", "https://good.com/admin/../public/a", "allowed"],
      ["encoded dots", "https://good.com/public/%2e%2e/admin", "denied"],
      ["encoded dots, upper case", "https://good.com/public/%2E%2E/admin", "denied"],
      ["half encoded dots", "https://good.com/public/.%2e/admin", "denied"],
      ["an encoded dot", "https://good.com/public/%2e/a", "allowed"],
      ["doubly encoded dots are not dots", "https://good.com/public/%252e%252e/admin", "allowed"],
      ["dots behind an encoded slash", "https://good.com/public/..%2fadmin", "denied"],
      ["dots between encoded slashes", "https://good.com/public%2f..%2fadmin", "denied"],
      ["dots behind an encoded backslash", "https://good.com/public/..%5cadmin", "denied"],
      ["dots before a semicolon", "https://good.com/public/..;/admin", "denied"],
      ["an encoded slash is no separator", "https://good.com/public%2fa", "denied"],
      ["an encoded slash inside of a segment", "https://good.com/public/group%2Fproject", "allowed"],
      ["encoded letters", "https://good.com/%70ublic/a", "allowed"],
      ["doubly encoded letters", "https://good.com/%2570ublic/a", "denied"],
      ["what decoding twice would make of it", "https://good.com/%%37%30ublic/a", "denied"],
      ["another case", "https://good.com/Public/a", "denied"],
      ["an empty segment before", "https://good.com//public/a", "denied"],
      ["an empty segment inside", "https://good.com/public//a", "allowed"],
      ["the path in the query", "https://good.com/admin?/public/a", "denied"],
      ["the path in the fragment", "https://good.com/admin#/public/a", "denied"],
      ["a fragment", "https://good.com/public/a#/../admin", "allowed"],
      ["dots in the query", "https://good.com/public/a?b=../../admin", "allowed"],
      ["a name that begins like it", "https://good.com/public-not/a", "denied"]
    ]
  ),
  ...under(
    "net.fetch",
    ["https://good.com/**/a.json", "https://good.com/*/b", "https://good.com/c", "https://good.com/d?e=*"],
    [
      ["** in the path", "https://good.com/x/y/a.json", "allowed"],
      ["** across ?", "https://good.com/secret?/a.json", "denied"],
      ["* across ?", "https://good.com/secret?x/b", "denied"],
      ["** across ? behind a path that is granted", "https://good.com/a.json?/a.json", "denied"],
      ["a query where none is granted", "https://good.com/c?x=y", "denied"],
      ["an empty query", "https://good.com/c?", "allowed"],
      ["a query that is granted", "https://good.com/d?e=f", "allowed"],
      ["another query", "https://good.com/d?e=f/g", "denied"],
      ["a parameter before it", "https://good.com/d?x&e=f", "denied"]
    ]
  ),
  ...under(
    "net.fetch",
    ["https://*.good.com/*"],
    [
      ["* is one label", "https://a.good.com/b", "allowed"],
      ["* crosses no . of the host", "https://a.b.good.com/c", "denied"],
      ["* and no label", "https://good.com/a", "denied"],
      ["* and an empty label", "https://.good.com/a", "denied"],
      ["* and a longer host", "https://a.good.com.evil.com/b", "denied"],
      ["* and another host before ?", "https://evil.com?.good.com/a", "denied"],
      ["* and another host before #", "https://evil.com#.good.com/a", "denied"],
      ["* and another host before @", "https://evil.com@a.good.com/b", "denied"],
      ["* and a port", "https://a.good.com:8443/b", "denied"],
      ["* in the path crosses no /", "https://a.good.com/b/c", "denied"],
      ["* in the path crosses .", "https://a.good.com/b.c", "allowed"],
      ["* takes a query", "https://a.good.com/b?c=d", "allowed"],
      ["* takes no query with a /", "https://a.good.com/b?c=/d", "denied"]
    ]
  ),
  ...under(
    "net.fetch",
    ["https://*/*"],
    [
      ["* is a host without dots", "https://localhost/", "allowed"],
      ["* is no host with dots", "https://good.com/", "denied"],
      ["* is no IPv6 address", "https://[::1]/", "denied"],
      ["* is no port", "https://localhost:8443/", "denied"],
      ["* is a number that is an IPv4 address", "https://2130706433/", "denied"]
    ]
  ),
  ...under(
    "net.fetch",
    ["https://**"],
    [
      ["** is every host", "https://a.b.c:8443/d?e=/f", "allowed"],
      ["** is no other scheme", "http://a.b.c/", "denied"]
    ]
  ),
  ...under(
    "net.fetch",
    ["https://good.com:*/a"],
    [
      ["any port", "https://good.com:8443/a", "allowed"],
      ["any port, but the default one is not there", "https://good.com/a", "denied"],
      ["any port of another host", "https://good.com.evil.com:8443/a", "denied"]
    ]
  ),
  ...under("net.fetch", ["https://good.com*/a"], [["no port", "https://good.com:1/a", "denied"]]),
  ...under("net.fetch", ["https://good*/a"], [["no suffix", "https://good.evil.com/a", "denied"]]),
  ...under("net.fetch", ["https://good.com"], [["no path is only /", "https://good.com/a", "denied"]]),
  ...under(
    "net.fetch",
    ["https://me@good.com/**", "https://%2A/**", "https://\uff0a/**"],
    [
      ["a pattern with user-info matches nothing", "https://good.com/a", "denied"],
      ["a pattern with user-info, and a target", "https://me@good.com/a", "denied"],
      ["an asterisk in disguise is no wildcard", "https://localhost/a", "denied"]
    ]
  ),
  ...under(
    "net.fetch",
    ["https://b\u00fccher.example/**", "https://*.XN--BCHER-KVA.example/"],
    [
      ["an IDN as Punycode", "https://xn--bcher-kva.example/a", "allowed"],
      ["an IDN in upper case", "https://B\u00dcCHER.example/a", "allowed"],
      ["an IDN decomposed", "https://bu\u0308cher.example/a", "allowed"],
      ["an IDN without its dots", "https://bucher.example/a", "denied"],
      ["an IDN below a wildcard", "https://a.b\u00fccher.example/", "allowed"]
    ]
  ),
  ...under(
    "net.fetch",
    ["http://127.0.0.1/**"],
    [
      ["decimal IPv4", "http://2130706433/", "allowed"],
      ["octal IPv4", "http://0177.0.0.1/", "allowed"],
      ["hexadecimal IPv4", "http://0x7f.1/", "allowed"],
      ["short IPv4", "http://127.1/", "allowed"],
      ["IPv4 with a trailing dot", "http://127.0.0.1./", "allowed"],
      ["IPv4 in fullwidth digits", "http://\uff11\uff12\uff17.0.0.1/", "allowed"],
      ["IPv4 out of range", "http://127.0.0.256/", "denied"],
      ["IPv4 mapped into IPv6", "http://[::ffff:127.0.0.1]/", "denied"],
      ["a name that means the same", "http://localhost/", "denied"],
      ["a name that begins with it", "http://127.0.0.1.evil.com/", "denied"],
      ["zero", "http://0/", "denied"]
    ]
  ),
  ...under(
    "net.fetch",
    ["http://10.*.0.1/", "http://[2001:DB8::1]/"],
    [
      ["* in IPv4", "http://10.7.0.1/", "allowed"],
      ["* in IPv4, which the short form is too", "http://10.458753/", "allowed"],
      ["* in IPv4 crosses no .", "http://10.7.7.0.1/", "denied"],
      ["IPv6", "http://[2001:db8::1]/", "allowed"],
      ["IPv6 in full", "http://[2001:0db8:0000:0000:0000:0000:0000:0001]/", "allowed"],
      ["another IPv6", "http://[2001:db8::2]/", "denied"],
      ["IPv6 with a zone", "http://[2001:db8::1%25eth0]/", "denied"],
      ["IPv6 without brackets", "http://2001:db8::1/", "denied"]
    ]
  )
]

const names: ReadonlyArray<Attack> = [
  ...under(
    "tool.call",
    ["search.*", "mcp:files/*"],
    [
      ["* in a name", "search.web", "allowed"],
      ["* crosses . in a name", "search.web.all", "allowed"],
      ["* does not cross /", "search.a/b", "denied"],
      ["a tool of a server", "mcp:files/read", "allowed"],
      ["a tool of another server", "mcp:shell/run", "denied"],
      ["dots are nothing special in names", "mcp:files/../shell/run", "denied"],
      ["a slash more", "mcp:files/a/b", "denied"],
      ["another case", "Search.web", "denied"],
      ["a prefix", "xsearch.web", "denied"],
      ["a newline", "search.web\n", "denied"],
      ["NUL", "search.\0", "denied"],
      ["an empty name", "", "denied"],
      ["an overlong name", `search.${"a".repeat(1018)}`, "denied"],
      ["a lone surrogate", "search.\ud800", "denied"]
    ]
  ),
  ...under(
    "agent.delegate",
    ["survey"],
    [
      ["the agent", "survey", "allowed"],
      ["another that begins like it", "survey2", "denied"],
      ["the agent with a space", "survey ", "denied"],
      ["the agent in Cyrillic", "surv\u0435y", "denied"]
    ]
  ),
  ...under(
    "model.use",
    ["vendor/small-*", "caf\u00e9"],
    [
      ["a model", "vendor/small-1", "allowed"],
      ["a bigger model", "vendor/large-1", "denied"],
      ["a model of another vendor", "other/small-1", "denied"],
      ["a model with traversal", "vendor/small-1/../large-1", "denied"],
      ["names are not normalized", "cafe\u0301", "denied"]
    ]
  ),
  ...under("x-vendor.acme.print", ["**"], [["a capability of a vendor", "any/thing", "allowed"]])
]

export const attacks: ReadonlyArray<Attack> = [...paths, ...urls, ...names]
