//! Plan: the operator's whole intent, checked, as plain comparable data.

use ipnet::IpNet;
use portunus_message::Limits;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

mod acme;
mod again;
mod preface;
mod protocol;
mod tls;

pub use acme::{Acme, AcmeAuthority, Challenge, Dns, DnsHook, DnsProvider, ExternalAccount, Signer, Wanted};
pub use again::{Hedge, InFlight, NonIdempotent, Queue, Retry, RetryChange, RetryOn, RouteHedge, Urgency};
pub use preface::{PrefaceVersion, Prefaced};
pub use protocol::Protocol;
pub use tls::{CertificateFiles, ClientAuth, PoolTls, SiteTls, TlsCurve, TlsSettings, TlsSuite, TlsVersion};

/// Everything that runs, as data. Two equal plans behave alike; nothing in it is open or running.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Plan {
    /// What concerns the whole program.
    #[serde(default)]
    pub settings: Settings,
    /// The pools, named ones first, then those that a plain `proxy` target made.
    #[serde(default)]
    pub pools: Vec<PoolPlan>,
    /// The sites, as written.
    #[serde(default)]
    pub sites: Vec<SitePlan>,
}

/// What concerns the whole program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Settings {
    /// Threads that serve; none means one for each core the process may use.
    pub workers: Option<usize>,
    /// The zone this proxy stands in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Where the admin API listens.
    pub admin: Admin,
    /// The access log; none means off.
    pub access_log: Option<AccessLog>,
    /// How much the program says of itself.
    pub log_level: LogLevel,
    /// Peers whose forwarding headers are believed.
    #[schemars(with = "Vec<String>")]
    pub trusted_proxies: Vec<IpNet>,
    /// How long requests may take to finish when the program stops.
    #[serde(with = "portunus_message::duration")]
    #[schemars(with = "String")]
    pub grace: Duration,
    /// Whether a change of a configuration file is applied at once.
    pub watch: bool,
    /// Who is asked for the addresses of names.
    #[serde(skip_serializing_if = "Resolver::is_default")]
    pub resolver: Resolver,
    /// Where changes that an operator has made at run time are kept, when asked; none means: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<PathBuf>,
    /// How certificates are got from a CA.
    #[serde(skip_serializing_if = "Acme::is_default")]
    pub acme: Acme,
    /// The bounds that hold where no site or route says otherwise.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            workers: None,
            zone: None,
            admin: Admin::default(),
            access_log: None,
            log_level: LogLevel::Info,
            trusted_proxies: Vec::new(),
            grace: Duration::from_secs(30),
            watch: false,
            resolver: Resolver::Default,
            state: None,
            acme: Acme::default(),
            limits: Limits::default(),
        }
    }
}

/// Who is asked for the addresses of names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Resolver {
    /// The servers of `/etc/resolv.conf`.
    #[default]
    Default,
    /// These DNS servers.
    Servers(Vec<SocketAddr>),
    /// The system's own resolver, with all that `nsswitch.conf` says, but without the times of answers.
    System,
}

impl Resolver {
    fn is_default(&self) -> bool {
        *self == Resolver::Default
    }
}

/// Where the admin API listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Admin {
    /// Nowhere.
    Off,
    /// At a unix socket that only the owner may open.
    Unix(PathBuf),
    /// At a TCP address, for whoever has the token.
    Tcp {
        /// Where.
        address: SocketAddr,
        /// What a caller has to present as a bearer token.
        token: Text,
    },
}

impl Default for Admin {
    fn default() -> Admin {
        Admin::Unix(PathBuf::from("/run/portunus/admin.sock"))
    }
}

/// The access log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AccessLog {
    /// How a line looks.
    pub format: LogFormat,
    /// Where it goes.
    pub to: LogTarget,
}

/// How a line of the access log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// One JSON object.
    #[default]
    Json,
    /// Apache's combined format.
    Combined,
}

/// Where log lines go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogTarget {
    /// Standard output.
    #[default]
    Stdout,
    /// A file, reopened on SIGUSR1.
    File(PathBuf),
    /// The local syslog socket (RFC 3164 over /dev/log), or the given unix datagram socket.
    Syslog(PathBuf),
}

/// How much the program says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
}

/// A text that may have been filled in from the environment or a file when the configuration was loaded.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text {
    /// What it is.
    pub value: String,
    /// What was written, when that is `${env.…}` or `${file.…}`; printed instead of the value.
    pub written: Option<String>,
}

impl Text {
    /// A text that stood in the configuration as it is.
    pub fn plain(value: impl Into<String>) -> Text {
        Text { value: value.into(), written: None }
    }

    /// What may be shown.
    pub fn shown(&self) -> &str {
        self.written.as_deref().unwrap_or(&self.value)
    }
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.shown())
    }
}

impl Serialize for Text {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.shown())
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Text, D::Error> {
        String::deserialize(from).map(Text::plain)
    }
}

impl JsonSchema for Text {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Text".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        String::json_schema(generator)
    }
}

/// The arguments of a directive, as written: words in order, and `key=value` options.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Args {
    /// The plain words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<Text>,
    /// The options.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, Text>,
}

/// A filter or a policy by its name, with its arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Directive {
    /// The name in the list of filters, or of policies.
    pub name: String,
    /// Its arguments.
    #[serde(default, flatten)]
    pub args: Args,
}

/// Servers that can stand in for each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PoolPlan {
    /// Its name; for a pool made by a plain target, the target as written (made unique by `#2`, `#3` …).
    pub name: String,
    /// Its members.
    pub servers: Vec<ServerPlan>,
    /// How one is chosen.
    pub balance: Directive,
    /// Idle connections.
    pub keep_alive: KeepAlive,
    /// How long a connect may take.
    #[serde(with = "portunus_message::duration")]
    #[schemars(with = "String")]
    pub connect_timeout: Duration,
    /// How its hosts are spoken with over TLS; none: plainly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<PoolTls>,
    /// The PROXY header that its hosts are told by whom a connection is from; none: they are not. Such a connection is for one
    /// request, because it belongs to one client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<PrefaceVersion>,
    /// Which HTTP they are spoken with in.
    #[serde(default, skip_serializing_if = "Protocol::is_auto")]
    pub protocol: Protocol,
    /// When a request is sent to another host.
    #[serde(default)]
    pub retry: Retry,
    /// How many requests it has at one time.
    #[serde(default)]
    pub queue: Queue,
    /// Asking a second host when the first one is slow; none: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hedge: Option<Hedge>,
    /// How long what is under way on it may take when it has to end; none means `grace`, and five minutes for tunnels that a stop does not wait for.
    #[serde(with = "portunus_message::duration::optional", default)]
    #[schemars(with = "Option<String>")]
    pub drain: Option<Duration>,
    /// When a host whose attempts fail is left out.
    #[serde(default)]
    pub eject: Eject,
    /// How the hosts are asked whether they are well; none means: they are not.
    #[serde(default)]
    pub health: Option<Health>,
    /// How a server that came back is brought up.
    #[serde(default)]
    pub slow_start: SlowStart,
    /// How many servers are kept in use whatever is held against them.
    #[serde(default)]
    pub keep: Keep,
    /// The cookie that brings a client back to its server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
}

/// How the hosts of a pool are asked, again and again, whether they are well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Health {
    /// What is asked.
    pub check: Check,
    /// How often, a tenth more or less.
    #[serde(with = "portunus_message::duration")]
    #[schemars(with = "String")]
    pub every: Duration,
    /// How long an answer may take.
    #[serde(with = "portunus_message::duration")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// After so many bad answers in a row a host is out.
    pub fails: u32,
    /// After so many good answers in a row it is in again.
    pub passes: u32,
}

/// What a host is asked to learn whether it is well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// Whether it accepts a connection.
    Tcp,
    /// A GET.
    Http(HttpCheck),
    /// `grpc.health.v1.Health/Check`, over HTTP/2.
    Grpc(GrpcCheck),
}

/// Which service of a host is asked after.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct GrpcCheck {
    /// Its name; empty: the host as a whole.
    pub service: String,
}

/// A request that asks a host whether it is well, and what its answer has to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HttpCheck {
    /// Path and query.
    pub path: String,
    /// Fields of the request; `Host` is the host's address unless one of them is.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub send: BTreeMap<String, Text>,
    /// The statuses that are good, each as its first and last.
    pub status: Vec<(u16, u16)>,
    /// What has to stand in the first 64 KiB of the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Fields that the answer has to have, each with this value, or with any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Option<String>>,
}

/// When a host whose attempts fail is left out for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Eject {
    /// Whether that is done at all.
    pub on: bool,
    /// After so many failures in a row; 0 means: they do not count.
    pub errors: u32,
    /// When so many of a hundred attempts fail; 0 means: the rate does not count.
    pub rate_percent: u32,
    /// Of how many attempts that rate is.
    pub of: u32,
    /// For how long; each further time that much longer.
    #[serde(with = "portunus_message::duration")]
    #[schemars(with = "String")]
    pub time: Duration,
    /// How many of a hundred hosts are kept in any case, and never fewer than one.
    pub keep_percent: u32,
    /// When it takes so many hundredths of the time that the median of the others takes; none means: latency does not count.
    pub latency_percent: Option<u32>,
}

impl Default for Eject {
    fn default() -> Eject {
        Eject {
            on: true,
            errors: 5,
            rate_percent: 50,
            of: 20,
            time: Duration::from_secs(10),
            keep_percent: 50,
            latency_percent: None,
        }
    }
}

/// The cookie that brings a client back to its server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Sticky {
    /// Its name.
    pub cookie: String,
    /// The keys that sign it, with white space between them: the first signs, all are believed.
    pub key: Text,
    /// How long a client keeps it, from its latest answer on; none means: until its session ends.
    #[serde(with = "portunus_message::duration::optional", default)]
    #[schemars(with = "Option<String>")]
    pub ttl: Option<Duration>,
    /// With which requests from other sites it is sent.
    #[serde(default)]
    pub same_site: SameSite,
}

/// With which requests from other sites a cookie is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SameSite {
    /// With those that follow a link.
    #[default]
    Lax,
    /// With none.
    Strict,
    /// With all; such a cookie is sent over TLS only.
    None,
}

/// How a server that came back is brought up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SlowStart {
    /// How long its weight grows, from a tenth to the whole; nothing means: it has all of it at once.
    #[serde(with = "portunus_message::duration")]
    #[schemars(with = "String")]
    pub time: Duration,
}

/// How many servers are kept in use whatever is held against them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Keep {
    /// When fewer than so many are good, the others are used as well; 0 means: never.
    pub hosts: u32,
}

impl Default for Keep {
    fn default() -> Keep {
        Keep { hosts: 1 }
    }
}

/// Idle connections to each host of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct KeepAlive {
    /// How many are kept for each host, over all workers; 0 means: each connection serves one request.
    pub idle: usize,
    /// For how long; none means: learned from the upstream, 4 s until then, 60 s at most.
    #[serde(with = "portunus_message::duration::optional", default)]
    #[schemars(with = "Option<String>")]
    pub time: Option<Duration>,
}

/// One member of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ServerPlan {
    /// Where it is.
    pub address: Address,
    /// Its share, against the other members' weights; 0 means: no new requests.
    pub weight: u32,
    /// Whether it is used only when no other is left.
    pub backup: bool,
    /// Requests that may be on it at one time; none: as many as the pool has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u32>,
    /// The zone it stands in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The name that its address was found by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found_by: Option<String>,
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Address {
    /// At a known address.
    Socket(SocketAddr),
    /// At a name that has to be resolved.
    Name {
        /// The host name.
        host: String,
        /// The port.
        port: u16,
    },
    /// At a unix socket.
    Unix(PathBuf),
    /// Where the SRV records of this name say (RFC 2782).
    Srv(String),
}

impl Address {
    /// Whether it has to be resolved, and may be several.
    pub fn is_name(&self) -> bool {
        matches!(self, Address::Name { .. } | Address::Srv(_))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Socket(address) => write!(f, "{address}"),
            Address::Name { host, port } => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Srv(name) => write!(f, "srv:{name}"),
        }
    }
}

/// A set of hosts, where they are listened for, and what is done with their requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SitePlan {
    /// Its names.
    pub names: Vec<HostPattern>,
    /// Where it listens.
    pub listen: Vec<Listen>,
    /// Where connections begin with a PROXY header.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefaced: Vec<Prefaced>,
    /// How it speaks TLS; none: it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<SiteTls>,
    /// Its routes, as written; the site's own `proxy` or answer is the last one, for every path.
    pub routes: Vec<RoutePlan>,
}

/// Which hosts a site is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HostPattern {
    /// This one, in normal form.
    Exact(String),
    /// Every name with one or more labels before this one: `example.com` for `*.example.com`.
    Under(String),
    /// Any host, and none.
    Any,
}

impl HostPattern {
    /// Whether it is for this host, which is in normal form.
    pub fn fits(&self, host: &str) -> bool {
        match self {
            HostPattern::Exact(name) => name == host,
            HostPattern::Under(name) => {
                host.strip_suffix(name.as_str()).is_some_and(|under| under.len() > 1 && under.ends_with('.'))
            }
            HostPattern::Any => true,
        }
    }
}

impl std::fmt::Display for HostPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HostPattern::Exact(name) => f.write_str(name),
            HostPattern::Under(name) => write!(f, "*.{name}"),
            HostPattern::Any => f.write_str("*"),
        }
    }
}

/// Where a listener stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Listen {
    /// At a TCP address.
    Tcp(SocketAddr),
    /// At a unix socket.
    Unix(PathBuf),
}

impl Listen {
    /// Whether some connection could come in at both of them.
    pub fn overlaps(&self, other: &Listen) -> bool {
        match (self, other) {
            (Listen::Unix(one), Listen::Unix(other)) => one == other,
            (Listen::Tcp(one), Listen::Tcp(other)) => {
                let holds = |any: &SocketAddr, ip: IpAddr| match any.ip().to_canonical() {
                    IpAddr::V4(any) => any.is_unspecified() && ip.is_ipv4(),
                    IpAddr::V6(any) => any.is_unspecified(), // IPv4 too, where it is listened at
                };
                let ips = (one.ip().to_canonical(), other.ip().to_canonical());
                let both = ips.0 == ips.1 || holds(one, ips.1) || holds(other, ips.0);
                one.port() != 0 && one.port() == other.port() && both
            }
            _ => false,
        }
    }
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Listen::Tcp(address) => write!(f, "{address}"),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// One way through a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RoutePlan {
    /// What it is called in logs, metrics and `explain`: site and matcher, as `example.com/users/*`.
    pub name: String,
    /// Which requests it is for.
    pub matcher: Matcher,
    /// Goes before precedence; 0 unless written.
    pub priority: i32,
    /// What may look at a request, change or answer it; outer block's first, as written.
    pub filters: Vec<Directive>,
    /// The pools that get its requests, with their shares; empty when a filter answers.
    pub forward: Vec<Forward>,
    /// By what a request stays with its part of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// The pool that gets more and more of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// The pool that gets copies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Mirror>,
    /// When a request is sent to another host, where that is not as its pool has it.
    #[serde(default, skip_serializing_if = "RetryChange::is_empty")]
    pub retry: RetryChange,
    /// Asking a second host when the first one is slow, where that is not as its pool has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hedge: Option<RouteHedge>,
    /// Whether its requests wait before or after others where a pool has no room.
    #[serde(default, skip_serializing_if = "Urgency::is_normal")]
    pub urgency: Urgency,
    /// The bounds that hold on it, one copy for all that have the same from their site.
    pub limits: Arc<Limits>,
}

/// By what a request stays with its part, where requests are shared between pools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// By the value of this cookie, which is set where it is missing.
    Cookie {
        /// Its name.
        name: String,
        /// How long a client keeps it; none means: until its session ends.
        #[serde(with = "portunus_message::duration::optional", default)]
        #[schemars(with = "Option<String>")]
        ttl: Option<Duration>,
    },
    /// By the value of this header field; where it is missing, by chance.
    Header(String),
}

/// A pool that gets copies of requests, and whose answers nobody sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Mirror {
    /// The pool's name.
    pub pool: String,
    /// Of how many requests.
    pub share: Share,
}

/// A pool that gets more and more of a route's requests, and none any more when it does worse than the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Canary {
    /// The pool's name.
    pub pool: String,
    /// The share it begins with.
    pub from: Share,
    /// The share it ends with.
    pub to: Share,
    /// How much is added at each step.
    pub step: Share,
    /// How long a step lasts.
    #[serde(with = "portunus_message::duration")]
    #[schemars(with = "String")]
    pub every: Duration,
    /// When it gets nothing any more: `errors > 1% or p99 > 1.5x`.
    pub abort: String,
    /// How many requests it must have had before it is judged.
    pub requests: u64,
}

/// A part of a whole, in thousandths of a percent; written `5%`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(pub u32);

impl Share {
    /// All of it.
    pub const WHOLE: Share = Share(100_000);

    /// Whether a number that may be anything falls into this part: the last one of all numbers.
    pub fn has(self, number: u64) -> bool {
        let place = (u128::from(number) * u128::from(Share::WHOLE.0)) >> 64;
        place >= u128::from(Share::WHOLE.0.saturating_sub(self.0))
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, rest) = (self.0 / 1000, format!("{:03}", self.0 % 1000));
        match rest.trim_end_matches('0') {
            "" => write!(f, "{whole}%"),
            rest => write!(f, "{whole}.{rest}%"),
        }
    }
}

impl Serialize for Share {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Share, D::Error> {
        let text = String::deserialize(from)?;
        let share = crate::values::parse_share(&text);
        share.map(Share).map_err(|mistake| serde::de::Error::custom(format!("`{text}` {}", mistake.reason)))
    }
}

impl JsonSchema for Share {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Share".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        String::json_schema(generator)
    }
}

/// A pool with its share of a route's requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Forward {
    /// The pool's name.
    pub pool: String,
    /// Its share, against the others'.
    pub weight: u32,
}

/// Which requests a route is for; every part has to fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Matcher {
    /// The path.
    pub path: PathMatch,
    /// One of these methods; empty means any.
    pub methods: Vec<String>,
    /// Every one of these header fields.
    pub headers: Vec<ValueMatch>,
    /// Every one of these query parameters.
    pub queries: Vec<ValueMatch>,
    /// Every one of these cookies.
    pub cookies: Vec<ValueMatch>,
    /// The client's address in one of these; empty means any.
    #[schemars(with = "Vec<String>")]
    pub clients: Vec<IpNet>,
}

/// Which paths fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PathMatch {
    /// All.
    #[default]
    Any,
    /// This one.
    Exact(String),
    /// This one and all below it, on segment borders; without the closing `/*`: `/users`.
    Prefix(String),
    /// Those that this regular expression finds a match in; `^` and `$` anchor it.
    Pattern(String),
}

/// A name and what its value must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ValueMatch {
    /// The name.
    pub name: String,
    /// What one of its values must be.
    pub value: ValueTest,
}

/// What a value must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ValueTest {
    /// There must be one (`header.x=*`).
    Present,
    /// Exactly this.
    Exact(String),
    /// A match of this regular expression, anchored at both ends (`header.x=~v[12]`).
    Pattern(String),
}

/// Why a plan cannot be compiled: `config` finds all of this earlier, with file and line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileMistake {
    /// The site, route or pool.
    pub place: String,
    /// Why.
    pub reason: String,
}

impl std::fmt::Display for CompileMistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}
