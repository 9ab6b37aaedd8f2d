//! The directives that are neither filters nor policies: names, places, arguments, manual. Everything about them comes from here.

use crate::protocol;
use portunus_relay::entry::{Kind, Param, Place};

/// Where a statement may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Outside every block.
    Top,
    /// In `defaults`.
    Defaults,
    /// In `pool` in `defaults`.
    DefaultPool,
    /// In `site` in `defaults`.
    DefaultSite,
    /// In `acme`.
    Acme,
    /// In `pool`.
    Pool,
    /// In `site`.
    Site,
    /// In `route`.
    Route,
}

impl Scope {
    /// How it is spoken of: "in …".
    pub fn spoken(self) -> &'static str {
        match self {
            Scope::Top => "outside every block",
            Scope::Defaults => "in `defaults`",
            Scope::DefaultPool => "in the `pool` of `defaults`",
            Scope::DefaultSite => "in the `site` of `defaults`",
            Scope::Acme => "in `acme`",
            Scope::Pool => "in a `pool`",
            Scope::Site => "in a `site`",
            Scope::Route => "in a `route`",
        }
    }

    /// Whether filters may stand here.
    pub fn has_filters(self) -> bool {
        matches!(self, Scope::DefaultSite | Scope::Site | Scope::Route)
    }
}

/// Whether a directive has a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// It must not.
    None,
    /// It must.
    Required,
}

/// One directive.
#[derive(Debug)]
pub struct Form {
    /// The word in the configuration.
    pub name: &'static str,
    /// Where it may stand.
    pub scopes: &'static [Scope],
    /// Whether it may stand there more than once.
    pub repeats: bool,
    /// What it takes.
    pub params: &'static [Param],
    /// Whether what it takes depends on more than `params` can say, and is checked where it is read.
    pub open: bool,
    /// Its block.
    pub block: Block,
    /// One paragraph for the manual; the first sentence stands alone in lists.
    pub manual: &'static str,
    /// An example that loads in its first scope.
    pub example: &'static str,
}

/// The directive of this name that may stand in `scope`.
pub fn find(name: &str, scope: Scope) -> Option<&'static Form> {
    FORMS.iter().find(|form| form.name == name && form.scopes.contains(&scope))
}

/// Directives that the language knows but this program does not yet.
pub const LATER: &[&str] = &["cache", "compress", "jwt", "rate-limit", "sni", "tcp", "udp", "waf"];

const fn param(name: &'static str, place: Place, kind: Kind, manual: &'static str) -> Param {
    Param { name, place, kind, manual }
}

const fn form(
    name: &'static str,
    scopes: &'static [Scope],
    params: &'static [Param],
    manual: &'static str,
    example: &'static str,
) -> Form {
    Form { name, scopes, repeats: false, params, open: false, block: Block::None, manual, example }
}

/// A switch: presence means on, `off` means off.
const SWITCH: Kind = Kind::OneOf(&["on", "off"]);

/// All of them, in the order of the manual.
pub const FORMS: &[Form] = &[
    form(
        "workers",
        &[Scope::Top],
        &[param("count", Place::Word, Kind::Number, "How many threads serve, 1 to 1024.")],
        "How many threads serve requests. Without it there is one for each core that the process may use.",
        "workers 4",
    ),
    form(
        "zone",
        &[Scope::Top],
        &[param("name", Place::Word, Kind::Text, "What servers call it in `zone=`.")],
        "The zone that this proxy stands in. Servers of the same zone are preferred, and so are those that name none: they get all requests as \
         long as 72 % of their weight is good. When less is, they get 1.4 times the part of their weight that is good, and the good servers of \
         other zones get the rest, each by its weight. Without it zones count for nothing.",
        "zone a",
    ),
    form(
        "admin",
        &[Scope::Top],
        &[
            param(
                "where",
                Place::Word,
                Kind::Text,
                "`unix:PATH`, `ADDRESS:PORT`, or `off`. A path that does not begin with `/` counts from the directory that the program was started in.",
            ),
            param(
                "token",
                Place::Option,
                Kind::Text,
                "What a caller over TCP has to present; required there.",
            ),
        ],
        "Where the admin API listens. Without it, at the unix socket `/run/portunus/admin.sock`, which only its owner may open. \
         At a TCP address it wants a token; keep that out of the file with `${env.NAME}` or `${file.PATH}`.",
        "admin unix:/run/portunus/admin.sock",
    ),
    Form {
        repeats: true,
        ..form(
            "log",
            &[Scope::Top],
            &[
                param(
                    "what",
                    Place::Word,
                    Kind::OneOf(&["access", "level"]),
                    "The access log, or how much the program says of itself.",
                ),
                param(
                    "how",
                    Place::Word,
                    Kind::Text,
                    "`json`, `combined` or `off` for `access`; `error`, `warn`, `info` or `debug` for `level`.",
                ),
                param(
                    "to",
                    Place::OptionalWord,
                    Kind::Text,
                    "`stdout` (unless written), a file, `syslog`, or `syslog:SOCKET`. A path that does not begin with `/` counts from the directory that the program was started in.",
                ),
            ],
            "`log access FORMAT [PLACE]` writes a line for each request; without it there is none. A file is opened anew on SIGUSR1. \
             `log level LEVEL` says how much the program says of itself on standard error; without it, `info`.",
            "log access json /var/log/portunus/access.log",
        )
    },
    Form {
        repeats: true,
        ..form(
            "trusted-proxies",
            &[Scope::Top],
            &[param("network", Place::Rest, Kind::Network, "Where proxies in front of this one are.")],
            "Whose forwarding headers are believed. `X-Forwarded-For` and `Forwarded` are read from right to left, as long as the one who \
             wrote an entry is in one of these networks; every other peer's are replaced. Without it nobody's are believed.",
            "trusted-proxies 10.0.0.0/8 192.168.0.0/16",
        )
    },
    form(
        "grace",
        &[Scope::Top],
        &[param("time", Place::Word, Kind::Duration, "How long requests may take to finish.")],
        "How long requests that are under way may take to finish when the program stops. Without it, 30 seconds.",
        "grace 30s",
    ),
    form(
        "watch",
        &[Scope::Top],
        &[param("switch", Place::OptionalWord, SWITCH, "`off` is the same as leaving it out.")],
        "Applies a change of the configuration's files as soon as it is written. A bad configuration is refused, and the old one goes on.",
        "watch",
    ),
    form(
        "resolver",
        &[Scope::Top],
        &[param(
            "server",
            Place::Rest,
            Kind::Text,
            "The address of a DNS server, with a port or without; or `system` alone.",
        )],
        "Who is asked for the addresses of servers that are written by name: up to three DNS servers. Without it, those of `/etc/resolv.conf`, with its search \
         list. `/etc/hosts` goes first in any case. A name is asked for again when its time is over, 1 second to 5 minutes; when nobody answers, or \
         nothing good, the last good addresses are kept. `system` asks in the system's own way, which may know more kinds of names, \
         every half minute.",
        "resolver 10.0.0.53 10.0.1.53:5353",
    ),
    form(
        "state",
        &[Scope::Top],
        &[param(
            "directory",
            Place::Word,
            Kind::Text,
            "An absolute path; it is created when it is not there.",
        )],
        "Where changes of pools that were made at run time with `--persist` are kept, and read from at the next start. Without it they end with the program. Certificates that are got automatically are kept there, too; without it they are in `/var/lib/portunus`, for users other than root in their own data directory.",
        "state /var/lib/portunus",
    ),
    Form {
        block: Block::Required,
        ..form(
            "acme",
            &[Scope::Top],
            &[],
            "How certificates are got from a CA, for the names of sites that have no other ones (RFC 8555). All of it is optional: without it they are from Let's Encrypt. \
             Accounts, keys and certificates are kept in the directory of `state`.",
            "acme { email ops@example.com }",
        )
    },
    form(
        "email",
        &[Scope::Acme],
        &[param("address", Place::Rest, Kind::Text, "An e-mail address.")],
        "Where a CA can write to when something is wrong with a certificate.",
        "email ops@example.com",
    ),
    Form {
        repeats: true,
        ..form(
            "ca",
            &[Scope::Acme],
            &[
                param("directory", Place::Word, Kind::Text, "The URL of its directory."),
                param(
                    "eab-id",
                    Place::Option,
                    Kind::Text,
                    "The name of an account that you have with it already (EAB).",
                ),
                param("eab-key", Place::Option, Kind::Text, "The key of that account, in base64url."),
                param(
                    "trust",
                    Place::Option,
                    Kind::Text,
                    "A file with the certificates of the authorities that it is believed by, in PEM; without it, those that the system believes.",
                ),
                param(
                    "profile",
                    Place::Option,
                    Kind::Text,
                    "Which of its kinds of certificates is asked for.",
                ),
            ],
            "A CA. There may be several: when one does not give a certificate, the next one is asked.",
            "ca https://acme-v02.api.letsencrypt.org/directory",
        )
    },
    form(
        "challenge",
        &[Scope::Acme],
        &[param(
            "kind",
            Place::Rest,
            Kind::Text,
            "`http-01`, `tls-alpn-01` or `dns-01`, the preferred first.",
        )],
        "How it is shown to a CA that a name is yours: by an answer at port 80, by a handshake at port 443, or by a record in the DNS. Without it, the first two where \
         something listens for them, one try with the one, the next with the other; a name with a wildcard always needs `dns-01`.",
        "challenge tls-alpn-01 http-01",
    ),
    form(
        "dns",
        &[Scope::Acme],
        &[
            param(
                "how",
                Place::Word,
                Kind::Text,
                "`exec`: a program of yours does it. Or the name of a [provider](dns-providers.md), which is asked to do it.",
            ),
            param(
                "command",
                Place::OptionalRest,
                Kind::Text,
                "Of `exec`: the program's absolute path and first arguments. It is called with `present NAME VALUE` to put a TXT record there, and with \
                 `cleanup NAME VALUE` to take it away; that it has ended well has to mean that it is done.",
            ),
            param("token", Place::Option, Kind::Text, "Of a provider: a token of its API."),
            param("key", Place::Option, Kind::Text, "A key of its API, or the name of one."),
            param("secret", Place::Option, Kind::Text, "What belongs to that key."),
            param("user", Place::Option, Kind::Text, "Who one is there."),
            param("password", Place::Option, Kind::Text, "What shows it."),
            param("account", Place::Option, Kind::Text, "Which account, subscription, project or team."),
            param("tenant", Place::Option, Kind::Text, "Of which organisation."),
            param("group", Place::Option, Kind::Text, "In which group of resources."),
            param("server", Place::Option, Kind::Text, "Where it is."),
            param("region", Place::Option, Kind::Text, "In which part of the world."),
            param("algorithm", Place::Option, Kind::Text, "How changes are signed."),
            param("client-ip", Place::Option, Kind::Text, "The address that it sees this machine at."),
            param(
                "zone",
                Place::Option,
                Kind::Text,
                "Which zone of the provider's the records are in. Without it, each part of the name is tried, from the longest on.",
            ),
            param(
                "wait",
                Place::Option,
                Kind::Duration,
                "How long a record needs until everybody sees it, 30s unless written.",
            ),
        ],
        "Who puts records into the DNS for `dns-01`.",
        "dns exec /usr/local/bin/dns-hook wait=1m",
    ),
    form(
        "ask",
        &[Scope::Acme],
        &[param(
            "url",
            Place::Word,
            Kind::Text,
            "Any `http://` or `https://` address; `?domain=NAME` is added.",
        )],
        "Who is asked whether a name shall have a certificate, for sites with `tls auto on-demand` or `tls internal on-demand`. Only an answer with status 200 means yes.",
        "ask http://127.0.0.1:9123/may-it",
    ),
    Form {
        repeats: true,
        block: Block::Required,
        ..form(
            "limits",
            &[Scope::Top, Scope::DefaultSite, Scope::Site, Scope::Route],
            &[],
            "The bounds that everything keeps to, each with a name and a default. Every one can be set for all; those that say so in the \
             list of limits also for a site or a route, where the inner one counts.",
            "limits { connections 100000; header-bytes 32KiB; body-bytes 100MiB }",
        )
    },
    Form {
        repeats: true,
        ..form(
            "include",
            &[Scope::Top, Scope::Defaults, Scope::Pool, Scope::Site, Scope::Route],
            &[param(
                "file",
                Place::Rest,
                Kind::Text,
                "A file, relative to this one; `*` and `?` stand for any text and any character.",
            )],
            "Puts the statements of other files here. Files of a pattern come in the order of their names; a pattern that fits none is fine, \
             a file that is missing or a directory that cannot be read is not. Pipes and devices cannot be included, nor files in themselves.",
            "include sites/*.conf",
        )
    },
    Form {
        repeats: true,
        block: Block::Required,
        ..form(
            "defaults",
            &[Scope::Top],
            &[],
            "What holds for every pool, including those that a plain `proxy` target makes, and for every site, wherever it is written. \
             A `pool` in it takes the settings of a pool without servers; a `site` in it takes filters and limits, which come before the site's own.",
            "defaults {\n    pool { balance least-requests }\n    site { limits { body-bytes 10MiB } }\n}",
        )
    },
    Form {
        repeats: true,
        block: Block::Required,
        ..form(
            "pool",
            &[Scope::Top, Scope::Defaults],
            &[param(
                "name",
                Place::Word,
                Kind::Text,
                "What `proxy` calls it: letters, digits, `-`, `_` and `.`.",
            )],
            "Servers that can stand in for each other, and how they are used. In `defaults` it has no name.",
            "pool web {\n    server 10.0.2.11:8080 weight=2\n    server 10.0.2.12:8080\n    server 10.0.2.13:8080 backup\n}",
        )
    },
    Form {
        repeats: true,
        block: Block::Required,
        ..form(
            "site",
            &[Scope::Top, Scope::Defaults],
            &[param(
                "name",
                Place::Rest,
                Kind::Text,
                "`example.com`, `*.example.com`, `http://example.com:8080`, `:8080` for any host on a port, `*` for any host.",
            )],
            "A set of hosts and what is done with their requests. `http://example.com` listens on port 80, `https://example.com` and a bare `example.com` on port 443 \
             with TLS, which wants `tls` inside; `:8080` on that port. `listen` inside says otherwise, and `*` needs it. The statements of a site hold for all its routes, before the route's own; its `proxy`, or a filter that \
             answers, is for the requests that no route is for. In `defaults` it has no name.",
            "site http://example.com http://www.example.com {\n    proxy 127.0.0.1:3000\n}",
        )
    },
    Form {
        repeats: true,
        ..form(
            "server",
            &[Scope::Pool],
            &[
                param(
                    "address",
                    Place::Word,
                    Kind::Text,
                    "`ADDRESS:PORT`, `NAME:PORT`, `http://NAME`, `https://NAME` (TLS), `h2c://NAME` (HTTP/2 without TLS), `srv:NAME`, or `unix:PATH`.",
                ),
                param(
                    "backup",
                    Place::OptionalWord,
                    Kind::OneOf(&["backup"]),
                    "Used only when no other server is left.",
                ),
                param(
                    "weight",
                    Place::Option,
                    Kind::Number,
                    "Its share against the others', 1 unless written; 0 means: no new requests.",
                ),
                param(
                    "max-in-flight",
                    Place::Option,
                    Kind::Number,
                    "How many requests may be on it at one time; further ones go to other servers, or wait in the pool's queue.",
                ),
                param("zone", Place::Option, Kind::Text, "The zone it stands in; see `zone`."),
            ],
            "A member of the pool. A name is resolved while the program runs, and every address that it has is a server of its own. `srv:_http._tcp.users.internal` \
             takes addresses, ports and weights from SRV records; those that are not of the first priority are backups.",
            "server 10.0.2.11:8080 weight=2",
        )
    },
    Form {
        open: true,
        ..form(
            "balance",
            &[Scope::Pool, Scope::DefaultPool],
            &[
                param("policy", Place::Word, Kind::Text, "The name of a policy."),
                param("argument", Place::OptionalWord, Kind::Text, "What that policy takes."),
            ],
            "How a server is chosen for each request. Without it, `round-robin`.",
            "balance least-requests",
        )
    },
    form(
        "sticky",
        &[Scope::Pool, Scope::DefaultPool],
        &[
            param(
                "switch",
                Place::OptionalWord,
                Kind::OneOf(&["off"]),
                "No cookie, whatever `defaults` say.",
            ),
            param("cookie", Place::Option, Kind::Text, "The cookie's name; required."),
            param(
                "key",
                Place::Option,
                Kind::Text,
                "What signs it, `${file.PATH}` or `${env.NAME}`; required. Each key has at least 16 bytes. Several with white space between \
                 them: the first signs, all are believed, so a new one is put in front and the old one taken away later.",
            ),
            param(
                "ttl",
                Place::Option,
                Kind::Duration,
                "How long a client keeps it after its latest answer; without it, until its session ends.",
            ),
            param(
                "same-site",
                Place::Option,
                Kind::OneOf(&["lax", "strict", "none"]),
                "With which requests from other sites it is sent, `lax` unless written; `none` also makes it `Secure`.",
            ),
        ],
        "Brings a client back to the server that it had, by a cookie. It names the server without showing which, and nobody can make one without the \
         key. When that server is gone, or not good, another one is chosen and the cookie set again. A server that is being drained, or has \
         weight 0, keeps its clients and gets no new ones.",
        "sticky cookie=srv key=${env.STICKY_KEY} ttl=1d",
    ),
    form(
        "tls",
        &[Scope::Pool, Scope::DefaultPool],
        &[
            param(
                "switch",
                Place::OptionalWord,
                Kind::OneOf(&["insecure", "off"]),
                "`insecure` believes whatever certificate is shown; `off` is plain, whatever `defaults` say.",
            ),
            param(
                "ca",
                Place::Option,
                Kind::Text,
                "A file with the certificates of the authorities that are believed, in PEM; without it, those that the system believes.",
            ),
            param(
                "name",
                Place::Option,
                Kind::Text,
                "What every server has to prove, and is asked for (SNI); without it, the name or address that is written.",
            ),
            param(
                "cert",
                Place::Option,
                Kind::Text,
                "A file with the certificate that the proxy shows when it is asked for one, in PEM.",
            ),
            param(
                "key",
                Place::Option,
                Kind::Text,
                "A file with its key; without it, the key stands behind the certificate.",
            ),
        ],
        "Speaks TLS with the servers, which `https://` before each of them does as well. Their certificates are verified, always, unless `insecure` is written, and `check` \
         warns of that. Sessions are resumed. Health checks speak TLS where requests do.",
        "tls insecure name=internal.example",
    ),
    form(
        "proxy-protocol",
        &[Scope::Pool, Scope::DefaultPool],
        &[param(
            "version",
            Place::Word,
            Kind::OneOf(&["v1", "v2", "off"]),
            "`v1` is a line of text, `v2` is binary; `off` is none, whatever `defaults` say.",
        )],
        "Tells the servers whom each connection is from, by a PROXY header before anything else, before TLS, too. Such a connection belongs to one client: it is made for a \
         request and closed after it. Health checks say that they are from the proxy itself. The servers have to expect the header, and to believe it from this proxy only.",
        "proxy-protocol v2",
    ),
    form(
        "protocol",
        &[Scope::Pool, Scope::DefaultPool],
        &[param(
            "version",
            Place::Word,
            Kind::OneOf(protocol::WORDS),
            "`auto`: over TLS what the server chooses, HTTP/2 if it can, and HTTP/1.1 without TLS. `http1`: HTTP/1.1. `http2`: HTTP/2 and nothing else; without TLS the \
             server has to know beforehand, which `h2c://` before each server says as well.",
        )],
        "Which version of HTTP the servers are spoken with in; `auto` unless written. What clients speak does not matter: each side has its own version. Over HTTP/2 many \
         requests share a connection, and gRPC needs it.",
        "protocol http2",
    ),
    form(
        "slow-start",
        &[Scope::Pool, Scope::DefaultPool],
        &[param(
            "time",
            Place::Word,
            Kind::Text,
            "How long it takes, or `off`, which is the same as leaving it out.",
        )],
        "Brings a server up by and by when it is new to a running pool, or has come back: its weight grows from a tenth to the whole over this time, \
         with every policy. It is not done when no server of full weight would be left.",
        "slow-start 30s",
    ),
    form(
        "keep",
        &[Scope::Pool, Scope::DefaultPool],
        &[param(
            "hosts",
            Place::RequiredOption,
            Kind::Number,
            "How many, 1 unless written; 0 means that no server is used which is not good.",
        )],
        "How many servers are kept in use whatever is held against them. When fewer are good by active checks and by how they did, all are \
         used but those that are drained and those that refused a connection in the last second: probably the checks are wrong, and if not, nothing \
         is lost. Metrics count requests that were sent so as `portunus_forced_requests_total`.",
        "keep hosts=1",
    ),
    form(
        "keep-alive",
        &[Scope::Pool, Scope::DefaultPool],
        &[
            param(
                "switch",
                Place::OptionalWord,
                Kind::OneOf(&["off"]),
                "Each connection serves one request.",
            ),
            param(
                "idle",
                Place::Option,
                Kind::Number,
                "How many idle connections are kept for each server, 64 unless written.",
            ),
            param(
                "for",
                Place::Option,
                Kind::Duration,
                "For how long; without it that is learned from the server: 4 seconds until then, 60 at most.",
            ),
        ],
        "How many connections to each server are kept open between requests, and for how long.",
        "keep-alive idle=64 for=60s",
    ),
    form(
        "connect",
        &[Scope::Pool, Scope::DefaultPool],
        &[param("timeout", Place::RequiredOption, Kind::Duration, "How long a connect may take.")],
        "How connections to the servers are opened. Without it a connect may take as long as the limit `connect` says.",
        "connect timeout=2s",
    ),
    form(
        "drain",
        &[Scope::Pool, Scope::DefaultPool],
        &[param("time", Place::Word, Kind::Duration, "How long.")],
        "How long what is under way on this pool may take when it has to end: requests when the program stops or is upgraded, tunnels (WebSocket) also when \
         their server is taken out of the configuration. Without it requests have the time of `grace`, and so have tunnels at a stop; otherwise \
         tunnels have five minutes. A tunnel is ended with close code 1001 on both sides.",
        "drain 30s",
    ),
    form(
        "retry",
        &[Scope::Pool, Scope::DefaultPool, Scope::Site, Scope::Route],
        &[
            param("switch", Place::OptionalWord, Kind::OneOf(&["off"]), "The same as `tries=1`."),
            param(
                "tries",
                Place::Option,
                Kind::Number,
                "How many attempts a request may take in all, 1 to 16, 2 unless written. Servers that refuse the connection, or answer nobody any more, are passed over without being \
                 counted, up to eight; with 1, nobody is.",
            ),
            param(
                "per-try",
                Place::Option,
                Kind::Duration,
                "How long one attempt may take, from choosing the server to the head of its answer; within the time of the whole request.",
            ),
            param(
                "budget",
                Place::Option,
                Kind::Text,
                "How many further attempts there may be, in percent of the pool's requests of the last ten seconds; `10%` unless written. Three a second \
                 are always allowed, but for `0%`. Attempts after a connection that could not be made cost nobody anything and do not count.",
            ),
            param(
                "on",
                Place::Option,
                Kind::Text,
                "What is tried again: `connect` (no connection could be made), `reset` (closed before an answer began), `timeout` (no answer within `per-try` or the limit \
                 `first-byte`), and the answers `429`, `500`, `502`, `503`, `504`. Unless written `connect,reset`, and `timeout` where there is a `per-try`.",
            ),
            param(
                "non-idempotent",
                Place::Option,
                Kind::OneOf(&["off", "key", "on"]),
                "Whether a POST or PATCH that a server may have seen is sent again, too: `key` if it has an `Idempotency-Key`, `on` always, `off` unless written.",
            ),
        ],
        "Whether another server is asked when one fails. That is done only when it is safe: nothing of the request was processed, or it may be repeated; its \
         body can be sent again; and no answer has begun. An answer that would be tried again is passed on when there is no other server or the budget is used up. \
         While a connection takes longer than 250 ms, other servers are asked for one beside it. The only server of a pool is asked again for a connection \
         that it refused, after a moment. In a site or a route what is written goes before what the pool has, and the rest stays as it is there.",
        "retry tries=2 per-try=1s budget=10% on=connect,reset,timeout,502,503,504",
    ),
    form(
        "max-in-flight",
        &[Scope::Pool, Scope::DefaultPool],
        &[param("count", Place::Word, Kind::Text, "A number, `adaptive` (unless written), or `off`.")],
        "How many requests may be on the pool at one time; further ones wait in its queue. `adaptive` begins with 256 and follows the time to the head of the answer: \
         it grows while that stays as it was, shrinks when more requests only make it longer, and counts only requests that wait for their answer to begin.",
        "max-in-flight 500",
    ),
    form(
        "queue",
        &[Scope::Pool, Scope::DefaultPool, Scope::Site, Scope::Route],
        &[
            param("switch", Place::OptionalWord, Kind::OneOf(&["off"]), "Nobody waits: 503 at once."),
            param(
                "length",
                Place::Option,
                Kind::Number,
                "How many requests may wait. Unless written 1000, or up to 10,000 that are served in time where the bound is `adaptive`.",
            ),
            param(
                "wait",
                Place::Option,
                Kind::Duration,
                "How long each may wait. Unless written a second, and a few milliseconds while nobody would be served sooner than within a quarter of it.",
            ),
            param(
                "priority",
                Place::Option,
                Kind::OneOf(&["high", "normal", "low"]),
                "In a site or a route, and only there: whose requests go first, `normal` unless written. Urgent ones are also taken when workers are late.",
            ),
        ],
        "Where requests wait while the pool has as many as it may have. Those of a higher priority first, then first come, first served; one whose client leaves gives up its place. Who waits too long, or finds the \
         queue full, gets 503 with `Retry-After`; in a full queue those of a higher priority take the place of the last one of the lowest. Health checks and the admin API \
         never wait here.",
        "queue length=1000 wait=1s",
    ),
    form(
        "hedge",
        &[Scope::Pool, Scope::DefaultPool, Scope::Site, Scope::Route],
        &[
            param(
                "percentile",
                Place::Word,
                Kind::Text,
                "`p95`: after the time within which 95 % of the pool's answers begin; or `off`.",
            ),
            param("max", Place::Option, Kind::Duration, "But never later than this."),
        ],
        "Asks a second server when the first one is slow, and takes the answer that comes first. Only for requests that may be repeated and have no body, and within the \
         budget of `retry`. The other attempt is cancelled by closing its connection. In a site or a route it goes before what the pool has.",
        "hedge p95",
    ),
    Form {
        open: true,
        ..form(
            "health",
            &[Scope::Pool, Scope::DefaultPool],
            crate::health::HEALTH,
            "Asks every server again and again whether it is well, and sends no requests to those that are not. With a path it is a GET \
             in the version of HTTP that requests have, with `grpc` the question of `grpc.health.v1.Health/Check`, with `tcp` only a connection, which is closed at once. A server of which nothing is known yet is used. While a \
             state is in doubt, because an answer did not fit it or the server is ejected, checks come five times as often, but not \
             more than twice a second. Checks are spread in time: each comes a tenth earlier or later. Without `health` nothing is asked, \
             and only `eject` keeps bad servers away.",
            "health /healthz every=5s fails=3 passes=2",
        )
    },
    form(
        "eject",
        &[Scope::Pool, Scope::DefaultPool],
        crate::health::EJECT,
        "When a server whose requests fail is left out for a while. On unless written `off`. Failures are attempts without an answer: refused or \
         broken connections, no answer in time, and what is no answer; the statuses 502, 503 and 504 count for the rate only. A server \
         that refuses connections goes at once, and is back as soon as it accepts one: it is tried in the background, four times \
         a second. One that is out because it gave no answer in time is asked `OPTIONS *` in the background, and is back soon after it \
         answers. When its time is over a server is tried with three requests at a time, and is fully back after \
         three good answers; a failure puts it out again, for longer each time, thirty times as long at most.",
        "eject errors=5 rate=50% of=20 for=10s keep=50% latency=off",
    ),
    Form {
        repeats: true,
        open: true,
        ..form(
            "listen",
            &[Scope::Site],
            &[
                param(
                    "address",
                    Place::Word,
                    Kind::Text,
                    "`ADDRESS:PORT`, `:PORT` for every address, IPv4 and IPv6, or `unix:PATH`.",
                ),
                param(
                    "tls",
                    Place::OptionalWord,
                    Kind::OneOf(&["tls"]),
                    "TLS is spoken here, and plain HTTP at the site's other addresses. Without it on any of them, a site with a certificate speaks TLS at all.",
                ),
                param(
                    "proxy-protocol",
                    Place::OptionalWord,
                    Kind::OneOf(&["proxy-protocol"]),
                    "Every connection begins with a PROXY header, version 1 or 2, before TLS. What it says of the client is believed, and holds wherever a client's \
                     address is asked for. A connection without one, or with a broken one, or from anybody who is not believed, is closed.",
                ),
                param(
                    "from",
                    Place::Option,
                    Kind::Text,
                    "Who is believed: addresses and networks with commas between them. Without it the `trusted-proxies` are. At a unix socket it is whoever may open it.",
                ),
            ],
            "Where the site listens, in place of what its names say. Sites may listen at the same address when their names differ, and at several addresses of \
             one port: a connection belongs to the nearest, one's own address before `0.0.0.0`, and that before `:PORT`. A unix socket that nobody answers at \
             is replaced; any other file at its path stays, and is an error.",
            "listen 127.0.0.1:8080",
        )
    },
    Form {
        repeats: true,
        ..form(
            "tls",
            &[Scope::Site],
            &[
                param(
                    "certificate",
                    Place::Word,
                    Kind::Text,
                    "A file with the certificate, and behind it those between it and a root, in PEM; relative to this file. Or `auto`: from a CA, as `acme` says; \
                     or `internal`: from an authority of the program's own, whose certificate `portunus trust` shows.",
                ),
                param(
                    "key",
                    Place::OptionalWord,
                    Kind::Text,
                    "A file with its private key, in PEM; without it, the key stands behind the certificate. Behind `auto` and `internal` it is `on-demand`: names that the \
                     site is for by `*` get their certificates when somebody asks for them.",
                ),
                param(
                    "from",
                    Place::Option,
                    Kind::OneOf(&["1.2", "1.3"]),
                    "The oldest version of TLS that is spoken, `1.2` unless written. 1.2 is spoken with authenticated encryption and forward \
                     secrecy only.",
                ),
                param(
                    "versions",
                    Place::Option,
                    Kind::Text,
                    "The versions that are spoken, in place of `from`: `1.2,1.3`, or one of them.",
                ),
                param(
                    "suites",
                    Place::Option,
                    Kind::Text,
                    "The cipher suites that are spoken, the preferred first, with commas between them, by their names in the IANA registry or in OpenSSL. Without it all \
                     that encrypt and authenticate in one step, with forward secrecy. A client that puts ChaCha20 first gets it, if it is among them.",
                ),
                param(
                    "curves",
                    Place::Option,
                    Kind::Text,
                    "How keys may be agreed on, with commas between them; the client's order decides: `X25519MLKEM768`, `SecP256r1MLKEM768`, `x25519`, `secp256r1`, `secp384r1`. Without it \
                     `X25519MLKEM768,x25519,secp256r1,secp384r1`; the first of them holds against quantum computers, too.",
                ),
            ],
            "What the site proves its names with. Without it, a site that listens for HTTPS has `auto` for its names, and `internal` for those that no CA can know: `localhost`, \
             private addresses, and names under `.local`, `.internal`, `.localhost` or without a dot. There may be several: each client gets the one that names the host it asks for, first one with that very name, \
             then one with a wildcard, and of two for the same name the one with an elliptic curve when it knows that kind. A client that asks for a host of no site \
             gets none. The files are watched: a new pair is used within a second, and one that does not fit is refused, with a line in the log, and the old one goes on.",
            "tls /etc/ssl/site.pem /etc/ssl/site.key",
        )
    },
    form(
        "client-auth",
        &[Scope::Site],
        &[
            param(
                "how",
                Place::Word,
                Kind::OneOf(&["require", "optional"]),
                "Whether a client without a certificate is turned away when hands are shaken. One whose certificate is not good always is.",
            ),
            param(
                "ca",
                Place::RequiredOption,
                Kind::Text,
                "A file with the certificates of the authorities whose clients are believed, in PEM; read when the configuration is loaded.",
            ),
        ],
        "Asks clients for a certificate. Who they are is told by `${tls.client.subject}` and `${tls.client.names}`, and judged by `access … subject=` and `san=`. Such a site \
         has no tickets, so every connection proves itself, and requests for it do not come by connections that were made for other sites.",
        "client-auth require ca=/etc/portunus/clients-ca.pem",
    ),
    Form {
        repeats: true,
        open: true,
        block: Block::Required,
        ..form(
            "route",
            &[Scope::Site],
            &[
                param(
                    "path",
                    Place::OptionalWord,
                    Kind::Text,
                    "`/users` is that path alone, `/users/*` is `/users` and all below it, `~^/v[0-9]+/` a regular expression, `*` any path. \
                     `/*` is a prefix like any other, so it goes before regular expressions; `*` goes after them.",
                ),
                param("method", Place::Option, Kind::Text, "One of these methods: `GET,HEAD`."),
                param(
                    "header.NAME",
                    Place::Option,
                    Kind::Text,
                    "The header field has this value; `*`: it is there; `~…`: a regular expression fits the whole value.",
                ),
                param("query.NAME", Place::Option, Kind::Text, "The same for a parameter of the query."),
                param("cookie.NAME", Place::Option, Kind::Text, "The same for a cookie."),
                param(
                    "client",
                    Place::Option,
                    Kind::Text,
                    "The client is in one of these networks: `10.0.0.0/8,::1`.",
                ),
                param(
                    "priority",
                    Place::Option,
                    Kind::Text,
                    "Goes before the usual precedence; higher first, 0 unless written.",
                ),
            ],
            "What is done with some of a site's requests. All that is written has to fit. Of several routes that fit, the exact path goes before the longest prefix, that before a \
             regular expression, that before any path; then one with a method, then the one with more headers, then with more query parameters, then with more cookies and `client=`; then the one written first. Paths are \
             compared in their normal form, on segment borders; `%24` is as good as `$`, and so are other visible characters. `%2F` is no `/`: for a server that takes it for one, `/admin%2Fx` \
             is below `/admin`, but not here; where that matters, `route ~%2F priority=1 { respond 400 }` refuses it.",
            "route /orders/* method=GET,POST header.x-version=2 { proxy 127.0.0.1:3000 }",
        )
    },
    Form {
        repeats: true,
        ..form(
            "proxy",
            &[Scope::Site, Scope::Route],
            &[
                param(
                    "target",
                    Place::Rest,
                    Kind::Text,
                    "The name of a pool, or the addresses of servers, which make a pool without a name.",
                ),
                param(
                    "weight",
                    Place::Option,
                    Kind::Number,
                    "The share of the requests, where several `proxy` stand side by side; 1 unless written.",
                ),
                param("balance", Place::Option, Kind::Text, "For addresses: as in a pool."),
                param(
                    "keep-alive",
                    Place::Option,
                    Kind::Text,
                    "For addresses: `off`, or how many idle connections are kept.",
                ),
                param(
                    "connect-timeout",
                    Place::Option,
                    Kind::Duration,
                    "For addresses: how long a connect may take.",
                ),
                param(
                    "tries",
                    Place::Option,
                    Kind::Number,
                    "For addresses: how many attempts a request may take in all.",
                ),
                param(
                    "proxy-protocol",
                    Place::Option,
                    Kind::OneOf(&["v1", "v2", "off"]),
                    "For addresses: as in a pool.",
                ),
                param(
                    "tls",
                    Place::Option,
                    Kind::OneOf(&["insecure"]),
                    "For `https://` addresses: any certificate is believed.",
                ),
                param(
                    "protocol",
                    Place::Option,
                    Kind::OneOf(protocol::WORDS),
                    "For addresses: as in a pool; `h2c://` before each means `http2` without TLS.",
                ),
                param("ca", Place::Option, Kind::Text, "For `https://` addresses: as in `tls` of a pool."),
                param("name", Place::Option, Kind::Text, "For `https://` addresses: as in `tls` of a pool."),
            ],
            "Sends requests to a pool. Several of them side by side share the requests by weight. In a site it is for the requests that no route is for.",
            "proxy 127.0.0.1:3000 127.0.0.1:3001 balance=random-two",
        )
    },
    form(
        "split",
        &[Scope::Site, Scope::Route],
        &[
            param("cookie", Place::Option, Kind::Text, "By this cookie, which is set where it is missing."),
            param(
                "header",
                Place::Option,
                Kind::Text,
                "By this header field; requests without it go by chance.",
            ),
            param(
                "ttl",
                Place::Option,
                Kind::Duration,
                "How long the cookie is kept; without it, until the client's session ends.",
            ),
        ],
        "Keeps a client with the same one of several `proxy` that stand side by side. What the cookie or field says is hashed, and the hash compared with \
         the weights, so every proxy decides alike and nothing is stored. When a weight grows, those who were in the part already stay in it.",
        "split cookie=version ttl=7d\nproxy 127.0.0.1:3000 weight=95\nproxy 127.0.0.1:3001 weight=5",
    ),
    form(
        "canary",
        &[Scope::Site, Scope::Route],
        &[
            param("pool", Place::Word, Kind::Text, "The pool with the new version, or its address."),
            param(
                "shares",
                Place::Word,
                Kind::Text,
                "The share of requests it begins and ends with: `1%..50%`.",
            ),
            param("step", Place::Option, Kind::Text, "How much is added at each step, `5%` unless written."),
            param("every", Place::Option, Kind::Duration, "How long a step lasts, 5 minutes unless written."),
            param(
                "abort",
                Place::Option,
                Kind::Text,
                "When it gets nothing any more: conditions with `or` between them. `errors > 1%`: of its requests so many failed or were answered with 500 or above. \
                 `p99 > 1.5x`: the time to its answers, against that of the other pools of the route; `p50`, `p90`, `p95` too, and `errors > 2x` and \
                 `p99 > 200ms`. Without it, `errors > 1% or p99 > 1.5x`.",
            ),
            param(
                "requests",
                Place::Option,
                Kind::Number,
                "How many requests it must have had in a step before it is judged, 20 unless written. Without so many it neither goes on nor back.",
            ),
        ],
        "Gives a new version more and more of the requests by itself, and none any more as soon as it does worse. Every step is in the log and in `portunus status`. At \
         the last share it stays, and goes on being watched. After it was given up it gets nothing until its line in the configuration is changed or the program is started anew; \
         a reload or an upgrade that leaves the line as it is keeps the share. Stands beside the `proxy` of the version that serves now.",
        "canary 127.0.0.1:3001 1%..50% step=5% every=5m abort=\"errors > 1% or p99 > 1.5x\"\nproxy 127.0.0.1:3000",
    ),
    form(
        "mirror",
        &[Scope::Site, Scope::Route],
        &[
            param("pool", Place::Word, Kind::Text, "The pool that gets copies, or its address."),
            param("share", Place::Option, Kind::Text, "Of how many requests, `100%` unless written."),
        ],
        "Sends copies of requests to another pool and drops its answers. A copy is sent when the real answer has begun, is marked by `X-Portunus-Mirror: 1`, and nobody waits for it. \
         Requests with a body of more than 64 KiB are not copied, nor websockets, nor more than 32 at a time for each worker: metrics count \
         these as `portunus_mirrors_skipped_total`. A request that changes something changes it there as well.",
        "mirror 127.0.0.1:3001 share=10%\nproxy 127.0.0.1:3000",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_directive_is_described() {
        for form in FORMS {
            assert!(form.manual.ends_with('.') && !form.manual.contains("  "), "{}", form.name);
            assert!(form.example.starts_with(form.name), "{}", form.name);
            assert!(form.params.iter().all(|param| param.manual.ends_with('.')), "{}", form.name);
            assert!(!LATER.contains(&form.name));
        }
    }
}
