//! Pools: those with a name, and those that a plain `proxy` target makes; one for each set of servers and settings.

use crate::again::{self, some_time};
use crate::args::Scene;
use crate::choosing::{self, Choosing};
use crate::directives::Scope;
use crate::draft::{Draft, Value};
use crate::findings::Span;
use crate::health;
use crate::mistake::did_you_mean;
use crate::outside::Wrong;
use crate::place::Seen;
use crate::protocol;
use crate::tls::{self, ToServers, Written};
use crate::values::{self, Scheme};
use portunus_message::Limits;
use portunus_relay::plan::{
    Address, Args, Directive, Eject, Health, Hedge, KeepAlive, PoolPlan, PrefaceVersion, Protocol, Queue,
    Retry, ServerPlan, Text,
};
use std::collections::HashMap;
use std::time::Duration;

/// Idle connections to each server, unless written.
const IDLE: usize = 64;
/// The largest weight of a server or a share.
pub const WEIGHT_MAX: u64 = 65535;

/// How a pool is used, whatever its servers are.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    balance: Directive,
    keep_alive: KeepAlive,
    connect_timeout: Duration,
    retry: Retry,
    queue: Queue,
    hedge: Option<Hedge>,
    drain: Option<Duration>,
    eject: Eject,
    health: Option<Health>,
    choosing: Choosing,
    tls: ToServers,
    proxy_protocol: Option<PrefaceVersion>,
    protocol: Protocol,
}

impl PoolSettings {
    /// What holds where nothing is written.
    pub fn new(limits: &Limits) -> PoolSettings {
        PoolSettings {
            balance: Directive { name: "round-robin".to_owned(), args: Args::default() },
            keep_alive: KeepAlive { idle: IDLE, time: None },
            connect_timeout: limits.connect,
            retry: Retry::default(),
            queue: Queue::default(),
            hedge: None,
            drain: None,
            eject: Eject::default(),
            health: None,
            choosing: Choosing::default(),
            tls: ToServers::default(),
            proxy_protocol: None,
            protocol: Protocol::default(),
        }
    }

    /// Reads the settings among the statements of a pool; `server` and what is unknown has been seen to.
    pub fn read(&mut self, block: &[Draft], scope: Scope, scene: &mut Scene<'_, '_>) {
        for (draft, form) in scene.known(block, scope) {
            self.statement(draft, form.name, scene);
        }
    }

    fn statement(&mut self, draft: &Draft, name: &str, scene: &mut Scene<'_, '_>) {
        let option =
            |key: &str| draft.options.iter().find(|(name, _)| &**name == key).map(|(_, value)| value);
        match name {
            "balance" => self.balance(draft, scene),
            "keep-alive" => {
                if let Some(off) = draft.words.first() {
                    self.keep_alive = KeepAlive { idle: 0, time: None };
                    if let Some((_, value)) = draft.options.first() {
                        let reason = "`keep-alive off` takes no options";
                        scene.findings.error(value.span, reason).earlier(off.span);
                    }
                } else if draft.options.is_empty() {
                    scene
                        .findings
                        .error(draft.span, "`keep-alive` says nothing")
                        .hint("write `idle=64`, `for=60s` or `off`");
                }
                if let Some(idle) = option("idle").and_then(|value| scene.parse(value, idle)) {
                    self.keep_alive.idle = idle;
                }
                if let Some(time) = option("for").and_then(|value| scene.parse(value, some_time)) {
                    self.keep_alive.time = Some(time);
                }
            }
            "drain" => {
                if let Some(time) = draft.words.first() {
                    self.drain = scene.parse(time, values::duration);
                }
            }
            "connect" => {
                if let Some(time) = option("timeout").and_then(|value| scene.parse(value, some_time)) {
                    self.connect_timeout = time;
                }
            }
            "eject" => health::read_eject(draft, &mut self.eject, scene),
            "health" => health::read(draft, &mut self.health, scene),
            "retry" => again::retry(draft, &mut self.retry, scene),
            "max-in-flight" => again::max_in_flight(draft, &mut self.queue, scene),
            "queue" => again::queue(draft, &mut self.queue, scene),
            "tls" => self.tls.read(draft, scene),
            "proxy-protocol" => {
                self.proxy_protocol = draft.words.first().and_then(|word| preface(&word.text.value));
            }
            "protocol" => {
                if let Some(word) = draft.words.first() {
                    self.protocol = scene.parse(word, protocol::read).unwrap_or_default();
                }
            }
            "hedge" => again::read_hedge(draft, &mut self.hedge, scene),
            _ => self.choosing.statement(draft, name, scene),
        }
    }

    /// `balance POLICY …`: what follows the policy's name is its own.
    fn balance(&mut self, draft: &Draft, scene: &mut Scene<'_, '_>) {
        let policies = scene.registry.policies;
        let names = || policies.iter().map(|entry| entry.name);
        let Some((policy, words)) = draft.words.split_first() else {
            let all = names().collect::<Vec<_>>().join(", ");
            scene
                .findings
                .error(draft.span, "`balance` needs the name of a policy")
                .hint(format!("one of {all}"));
            return;
        };
        let Some(entry) = policies.iter().find(|entry| entry.name == policy.text.value) else {
            let hint = did_you_mean(&policy.text.value, names())
                .unwrap_or_else(|| format!("the policies are {}", names().collect::<Vec<_>>().join(", ")));
            scene.findings.error(policy.span, format!("there is no policy {}", policy.shown())).hint(hint);
            return;
        };
        let inner = Draft {
            name: entry.name.into(),
            span: policy.span,
            words: words.to_vec(),
            options: draft.options.clone(),
            block: None,
        };
        if let Some(directive) = scene.build(entry, &inner) {
            self.balance = directive;
        }
    }

    /// The settings that follow a plain target as `key=value`.
    fn option(&mut self, key: &str, value: &Value, scene: &mut Scene<'_, '_>) {
        match key {
            "balance" => {
                let words = value.text.value.split_ascii_whitespace();
                let words = words.map(|word| Value { text: Text::plain(word), span: value.span }).collect();
                let draft =
                    Draft { name: key.into(), span: value.span, words, options: Vec::new(), block: None };
                self.balance(&draft, scene);
            }
            "keep-alive" if value.text.value == "off" => self.keep_alive = KeepAlive { idle: 0, time: None },
            "keep-alive" => self.keep_alive.idle = scene.parse(value, idle).unwrap_or(IDLE),
            "connect-timeout" => {
                self.connect_timeout = scene.parse(value, some_time).unwrap_or(self.connect_timeout);
            }
            "tries" => {
                self.retry.tries = scene.parse(value, again::tries).unwrap_or(self.retry.tries);
            }
            "proxy-protocol" => self.proxy_protocol = preface(&value.text.value),
            "protocol" => self.protocol = scene.parse(value, protocol::read).unwrap_or_default(),
            _ => _ = self.tls.option(key, value, scene),
        }
    }
}

/// `v1`, `v2` or `off`, as its description has it.
fn preface(text: &str) -> Option<PrefaceVersion> {
    match text {
        "v1" => Some(PrefaceVersion::V1),
        "v2" => Some(PrefaceVersion::V2),
        _ => None,
    }
}

fn idle(text: &str) -> Result<usize, Wrong> {
    let wrong =
        |wrong: Wrong| if wrong.hint.is_none() { wrong.hint("write a number, or `off`") } else { wrong };
    values::number(text, 0, 1_000_000).map_err(wrong).map(|idle| usize::try_from(idle).unwrap_or(usize::MAX))
}

/// A weight or a share.
pub fn weight(text: &str) -> Result<u32, Wrong> {
    values::number(text, 0, WEIGHT_MAX).map(|weight| u32::try_from(weight).unwrap_or(u32::MAX))
}

/// The address of a server that comes to `pool` while it is in use, by the rules that hold for those that are written.
pub fn newcomer(text: &str, pool: &PoolPlan) -> Result<Address, Wrong> {
    let address = values::address(text)?;
    let (own, speaks) = match (&pool.tls, pool.protocol) {
        (Some(_), _) => (Scheme::Https, "TLS; write `https://`, or the address alone"),
        (None, Protocol::Http2) => (Scheme::H2c, "HTTP/2 without TLS; write `h2c://`, or the address alone"),
        (None, _) => (Scheme::Http, "plain HTTP; write `http://`, or the address alone"),
    };
    if values::scheme(text).is_some_and(|scheme| scheme != own) {
        return Err(Wrong::new(format!("cannot be in pool `{}`, whose servers speak {speaks}", pool.name)));
    }
    match &pool.tls {
        Some(tls) if tls::is_unproved(tls, &address) => Err(Wrong::new(tls::UNPROVED).hint(tls::NAME_IT)),
        _ => Ok(address),
    }
}

/// All pools, as they are found.
pub struct Pools {
    defaults: PoolSettings,
    named: Vec<Named>,
    by_name: HashMap<String, usize>,
    unnamed: Vec<PoolPlan>,
    by_content: HashMap<String, usize>,
    /// How many unnamed pools have the same servers.
    names: HashMap<String, usize>,
}

struct Named {
    plan: PoolPlan,
    span: Span,
    used: bool,
}

impl Pools {
    /// None yet; each new one begins with these settings.
    pub fn new(defaults: PoolSettings) -> Pools {
        Pools {
            defaults,
            named: Vec::new(),
            by_name: HashMap::new(),
            unnamed: Vec::new(),
            by_content: HashMap::new(),
            names: HashMap::new(),
        }
    }

    /// `pool NAME { … }`.
    pub fn define(&mut self, draft: &Draft, scene: &mut Scene<'_, '_>) {
        let Some(word) = draft.words.first() else { return };
        let name = word.text.value.clone();
        if !is_pool_name(&name) {
            let reason = format!("{} is not the name of a pool", word.shown());
            scene
                .findings
                .error(word.span, reason)
                .hint("letters, digits, `-`, `_` and `.` can stand in one");
        }
        let block = draft.block.as_deref().unwrap_or(&[]);
        let mut settings = self.defaults.clone();
        let mut servers = Servers::default();
        let mut seen = Seen::default();
        for draft in block {
            if let crate::place::Found::Form(form) = scene.find(draft, Scope::Pool, &mut seen) {
                match form.name {
                    "server" => servers.read(draft, scene),
                    name => settings.statement(draft, name, scene),
                }
            } else {
                // What was wrong with a server has been told; that the pool has none would be no news.
                servers.tried |= &*draft.name == "server";
            }
        }
        if servers.list.is_empty() && !servers.tried && draft.block.is_some() {
            let reason = format!("pool `{name}` has no server");
            scene.findings.error(word.span, reason).hint("write `server 127.0.0.1:8080` in it");
        }
        if !servers.list.is_empty() && servers.list.iter().all(|server| server.weight == 0) {
            let reason = format!("every server of pool `{name}` has weight 0, so no request is sent there");
            scene.findings.warning(word.span, reason);
        }
        if let Some(&first) = self.by_name.get(&name) {
            // Invariant: by_name holds indices of `named`.
            let first = self.named[first].span;
            scene.twice(word.span, &format!("pool `{name}`"), first);
            return;
        }
        let plan = settings.into_plan(name.clone(), servers, scene);
        self.by_name.insert(name, self.named.len());
        self.named.push(Named { plan, span: word.span, used: false });
    }

    /// The name of the pool that the targets of a `proxy` statement mean; a new one is made where they are addresses.
    pub fn target(&mut self, draft: &Draft, scene: &mut Scene<'_, '_>) -> Option<String> {
        let named = draft.words.iter().find(|word| self.by_name.contains_key(&word.text.value));
        if let Some(word) = named {
            return self.named_target(draft, word, scene);
        }
        let mut servers = Servers::default();
        for word in &draft.words {
            if is_pool_name(&word.text.value) && word.text.value.parse::<std::net::IpAddr>().is_err() {
                let names = self.named.iter().map(|named| named.plan.name.as_str());
                let near = if scene.findings.full() { None } else { did_you_mean(&word.text.value, names) };
                let hint = near.unwrap_or_else(|| {
                    format!("write `pool {0} {{ … }}`, or an address: `{0}:80`", word.text.value)
                });
                scene.findings.error(word.span, format!("there is no pool {}", word.shown())).hint(hint);
                servers.tried = true;
            } else {
                servers.add(word, Member { weight: 1, ..Member::default() }, scene);
            }
        }
        let mut settings = self.defaults.clone();
        for (key, value) in &draft.options {
            settings.option(key, value, scene);
        }
        if servers.tried || servers.list.is_empty() {
            return None;
        }
        Some(self.unnamed(settings, servers, scene))
    }

    fn named_target(&mut self, draft: &Draft, word: &Value, scene: &mut Scene<'_, '_>) -> Option<String> {
        let name = &word.text.value;
        if let Some(other) = draft.words.iter().find(|other| other.span != word.span) {
            let reason = "a pool stands alone in a `proxy`";
            scene
                .findings
                .error(other.span, reason)
                .hint("share between several with one `proxy POOL weight=…` each");
        }
        if let Some((key, value)) = draft.options.iter().find(|(key, _)| &**key != "weight") {
            let reason = format!("`{key}=` is for plain addresses; pool `{name}` has its own settings");
            scene.findings.error(value.span, reason).hint(format!("write it in `pool {name} {{ … }}`"));
        }
        let named = self.by_name.get(name).and_then(|&at| self.named.get_mut(at))?;
        named.used = true;
        Some(name.clone())
    }

    /// The pool of these servers with these settings: the same one for the same.
    fn unnamed(&mut self, settings: PoolSettings, servers: Servers, scene: &mut Scene<'_, '_>) -> String {
        let has = |wanted| servers.schemes.iter().any(|(_, scheme, _)| *scheme == Some(wanted));
        let written: Vec<String> = servers.list.iter().map(|server| server.address.to_string()).collect();
        let written = written.join(" ");
        let written = match (has(Scheme::Https), has(Scheme::H2c)) {
            (true, _) => format!("https://{written}"),
            (_, true) => format!("h2c://{written}"),
            _ => written,
        };
        let content = format!("{written} {settings:?}");
        if let Some(plan) = self.by_content.get(&content).and_then(|&at| self.unnamed.get(at)) {
            return plan.name.clone();
        }
        let count = self.names.entry(written.clone()).or_default();
        *count += 1;
        let name = if *count == 1 { written } else { format!("{written}#{count}") };
        self.by_content.insert(content, self.unnamed.len());
        let plan = settings.into_plan(name.clone(), servers, scene);
        self.unnamed.push(plan);
        name
    }

    /// Tells of pools that nothing uses.
    pub fn warn_unused(&self, scene: &mut Scene<'_, '_>) {
        if scene.findings.any_error() {
            return;
        }
        for named in self.named.iter().filter(|named| !named.used) {
            let reason = format!("no `proxy` uses pool `{}`", named.plan.name);
            scene.findings.warning(named.span, reason);
        }
    }

    /// The named ones first.
    pub fn into_plans(self) -> Vec<PoolPlan> {
        self.named.into_iter().map(|named| named.plan).chain(self.unnamed).collect()
    }
}

impl PoolSettings {
    fn into_plan(self, name: String, servers: Servers, scene: &mut Scene<'_, '_>) -> PoolPlan {
        let PoolSettings {
            balance,
            keep_alive,
            connect_timeout,
            retry,
            queue,
            hedge,
            eject,
            health,
            choosing,
            drain,
            tls,
            proxy_protocol,
            protocol,
        } = self;
        let tls = tls.finish(&servers.schemes, scene);
        let protocol = protocol::finish(protocol, &servers.schemes, scene);
        let (secure, introduces) = (tls.is_some(), proxy_protocol.is_some());
        protocol::contradiction(protocol, secure, introduces, health.as_ref(), &servers.schemes, scene);
        let servers = servers.list;
        let Choosing { slow_start, keep, sticky } = choosing;
        PoolPlan {
            name,
            servers,
            balance,
            keep_alive,
            connect_timeout,
            retry,
            queue,
            hedge,
            eject,
            health,
            slow_start,
            keep,
            sticky,
            drain,
            tls,
            proxy_protocol,
            protocol,
        }
    }
}

/// A word that could name a pool: no address has this form.
fn is_pool_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !text.is_empty() && text.len() <= 128 && text.bytes().all(fits)
}

/// What is written of a server beside its address.
#[derive(Default)]
struct Member {
    weight: u32,
    backup: bool,
    zone: Option<String>,
    max_in_flight: Option<u32>,
}

/// The servers of one pool.
#[derive(Default)]
struct Servers {
    list: Vec<ServerPlan>,
    /// How each was written.
    schemes: Vec<Written>,
    seen: HashMap<Address, Span>,
    /// Whether one was written that could not be read.
    tried: bool,
}

impl Servers {
    /// `server ADDRESS [backup] [weight=…] [zone=…]`.
    fn read(&mut self, draft: &Draft, scene: &mut Scene<'_, '_>) {
        let Some(address) = draft.words.first() else {
            self.tried = true;
            return;
        };
        let is_address = |value: &Value| values::address(&value.text.value).is_ok();
        if !is_address(address)
            && let Some(second) = draft.words.get(1).filter(|second| is_address(second))
        {
            let hint = format!("write `server {}`", second.text.shown());
            scene.findings.error(address.span, "a server has no name besides its address").hint(hint);
            scene.findings.taint(draft.span);
            self.tried = true;
            return;
        }
        let backup = draft.words.len() > 1;
        let option =
            |key: &str| draft.options.iter().find(|(name, _)| &**name == key).map(|(_, value)| value);
        let weight = option("weight").map_or(Some(1), |value| scene.parse(value, weight)).unwrap_or(1);
        let zone = option("zone").and_then(|value| scene.parse(value, choosing::zone));
        let max_in_flight = option("max-in-flight").and_then(|value| again::of_server(value, scene));
        self.add(address, Member { weight, backup, zone, max_in_flight }, scene);
    }

    fn add(&mut self, value: &Value, member: Member, scene: &mut Scene<'_, '_>) {
        let Some(address) = scene.parse(value, values::address) else {
            self.tried = true;
            return;
        };
        if let Some(first) = self.seen.insert(address.clone(), value.span) {
            scene.twice(value.span, &format!("server {}", value.shown()), first);
        }
        let Member { weight, backup, zone, max_in_flight } = member;
        self.schemes.push((address.clone(), values::scheme(&value.text.value), value.span));
        self.list.push(ServerPlan { address, weight, backup, zone, max_in_flight, found_by: None });
    }
}

#[cfg(test)]
mod tests {
    use crate::{Environment, Loaded, load_text, server};

    #[test]
    fn who_comes_later_has_the_scheme_of_the_pool_or_none() {
        let text = "pool plain { server 127.0.0.1:1 }\n\
                    pool secure { server 127.0.0.1:1; tls insecure }\n\
                    pool h2 { server 127.0.0.1:1; protocol http2 }\n\
                    pool h2c { server h2c://127.0.0.1:1 }\n\
                    site :8080 { respond 200 }\n";
        let environment = Environment { variable: &|_| None, has_providers: false };
        let Loaded { plan, .. } = load_text("test", text, &environment).unwrap();
        let is_taken = |pool: &str, address: &str| {
            let pool = plan.pools.iter().find(|plan| plan.name == pool).unwrap();
            server(address, pool).map(|address| address.to_string())
        };
        for (pool, own) in [("plain", "http"), ("secure", "https"), ("h2", "h2c"), ("h2c", "h2c")] {
            for scheme in ["http", "https", "h2c"] {
                let taken = is_taken(pool, &format!("{scheme}://127.0.0.2:2"));
                match scheme == own {
                    true => assert_eq!(taken.unwrap(), "127.0.0.2:2"),
                    false => {
                        assert!(taken.unwrap_err().contains(&format!("write `{own}://`")), "{pool} {scheme}")
                    }
                }
            }
            assert_eq!(is_taken(pool, "127.0.0.2:2").unwrap(), "127.0.0.2:2");
        }
        assert!(is_taken("secure", "unix:/run/x").is_ok() && is_taken("plain", "unix:/run/x").is_ok());
        let mut proving = plan.pools.iter().find(|plan| plan.name == "secure").unwrap().clone();
        proving.tls.as_mut().unwrap().insecure = false;
        let refused = server("unix:/run/x", &proving).unwrap_err();
        assert!(refused.ends_with("write `tls name=NAME` in the pool"), "{refused}");
    }
}
