//! How a pool chooses, whatever its policy: `sticky`, `slow-start`, `keep`, and the zone of a server.

use crate::args::Scene;
use crate::draft::{Draft, Value};
use crate::findings::Findings;
use crate::mistake::did_you_mean;
use crate::outside::Wrong;
use crate::values;
use portunus_relay::plan::{Keep, PoolPlan, SameSite, SitePlan, SlowStart, Sticky};
use portunus_relay::sticky;
use std::collections::{BTreeMap, HashMap};

/// What is written of it in one pool.
#[derive(Clone, Debug, Default)]
pub struct Choosing {
    /// How a server that came back is brought up.
    pub slow_start: SlowStart,
    /// How many servers are kept in use.
    pub keep: Keep,
    /// The cookie that brings a client back.
    pub sticky: Option<Sticky>,
}

impl Choosing {
    /// Reads one statement, if it is one of these.
    pub fn statement(&mut self, draft: &Draft, name: &str, scene: &mut Scene<'_, '_>) {
        match (name, draft.words.first()) {
            ("slow-start", Some(word)) if word.text.value == "off" => self.slow_start = SlowStart::default(),
            ("slow-start", Some(word)) => {
                if let Some(time) = scene.parse(word, values::duration) {
                    self.slow_start = SlowStart { time };
                }
            }
            ("keep", _) => self.keep(draft, scene),
            ("sticky", _) => self.sticky(draft, scene),
            _ => {}
        }
    }

    /// `keep hosts=K`.
    fn keep(&mut self, draft: &Draft, scene: &mut Scene<'_, '_>) {
        for (_, value) in draft.options.iter().filter(|(key, _)| &**key == "hosts") {
            if let Some(hosts) = scene.parse(value, |text| values::number(text, 0, 65535)) {
                self.keep = Keep { hosts: u32::try_from(hosts).unwrap_or(u32::MAX) };
            }
        }
    }

    /// `sticky cookie=NAME key=${…} [ttl=…] [same-site=…]`, or `sticky off`.
    fn sticky(&mut self, draft: &Draft, scene: &mut Scene<'_, '_>) {
        let option =
            |key: &str| draft.options.iter().find(|(name, _)| &**name == key).map(|(_, value)| value);
        if let Some(off) = draft.words.first() {
            if let Some((_, value)) = draft.options.first() {
                scene.findings.error(value.span, "`sticky off` takes no options").earlier(off.span);
            }
            self.sticky = None;
            return;
        }
        let Some(name) = option("cookie") else {
            let reason = "`sticky` needs the name of its cookie";
            scene.findings.error(draft.span, reason).hint("write `sticky cookie=srv key=${file.sticky.key}`");
            return;
        };
        let cookie = scene.parse(name, cookie_name);
        let Some(key) = option("key") else {
            let reason =
                "`sticky` needs a `key`: anybody could choose a server by a cookie that is not signed";
            scene.findings.error(draft.span, reason).hint(MAKE_A_KEY);
            return;
        };
        let before = scene.findings.errors();
        if key.text.written.is_none() {
            let reason =
                "the key stands in the configuration itself, where everybody sees it who may read that";
            scene.findings.error(key.span, reason).hint(MAKE_A_KEY);
        } else if let Err(reason) = sticky::keys(&key.text.value) {
            scene.findings.error(key.span, reason).hint(MAKE_A_KEY);
        }
        let ttl = option("ttl").and_then(|value| scene.parse(value, ttl));
        let same_site = option("same-site").and_then(|value| scene.parse(value, same_site));
        if let (Some(cookie), true) = (cookie, scene.findings.errors() == before) {
            let same_site = same_site.unwrap_or_default();
            self.sticky = Some(Sticky { cookie, key: key.text.clone(), ttl, same_site });
        }
    }
}

/// How a key comes to be.
pub const MAKE_A_KEY: &str =
    "make one with `openssl rand -base64 32 > sticky.key` and write `key=${file.sticky.key}`";

/// The name of a zone.
pub fn zone(text: &str) -> Result<String, Wrong> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match text.len() {
        1..=64 if text.bytes().all(fits) => Ok(text.to_owned()),
        _ => Err(Wrong::new("is not the name of a zone")
            .hint("letters, digits, `-`, `_` and `.` can stand in one")),
    }
}

/// Two pools of a site whose clients are to come back by the same cookie, and its name: each takes the other's for a forged one.
/// Those among which a `split` shares the clients have none in common.
pub fn same_cookie<'p>(
    site: &SitePlan,
    pools: &HashMap<&str, &'p PoolPlan>,
) -> Option<(&'p str, &'p str, &'p str)> {
    let mut owners = HashMap::new();
    for route in &site.routes {
        let mut mine: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for pool in route.forward.iter().filter_map(|forward| pools.get(&*forward.pool).copied()) {
            if let Some(sticky) = &pool.sticky {
                mine.entry(&sticky.cookie).or_default().push(&pool.name);
            }
        }
        for (cookie, names) in mine {
            let split = route.split.as_ref();
            let (as_before, before) = owners.entry(cookie).or_insert_with(|| (split, names.clone()));
            if split.is_some() && *as_before == split && *before == names {
                continue;
            }
            let mut pairs = before.iter().flat_map(|one| names.iter().map(move |other| (*one, *other)));
            if let Some((one, other)) = pairs.find(|(one, other)| one != other) {
                return Some((one, other, cookie));
            }
        }
    }
    None
}

/// Tells of zones that change nothing: servers stand in some and the proxy in none, or all of them are as far from it.
pub fn warn_of_zones(drafts: &[Draft], own: Option<&str>, pools: &[PoolPlan], findings: &mut Findings) {
    if findings.any_error() {
        return;
    }
    let mut zones = Vec::new();
    gather_zones(drafts, &mut zones);
    let named = |zone: &&Value| own == Some(&*zone.text.value);
    // A server that stands in none is near.
    let is_mixed = |pool: &PoolPlan| {
        let first = || pool.servers.iter().filter(|server| !server.backup);
        first().any(|server| server.zone.is_none()) && first().any(|server| server.zone.is_some())
    };
    match (own, zones.first()) {
        (None, Some(first)) => {
            findings
                .warning(first.span, "the zones of servers count for nothing: this proxy stands in none")
                .hint("`zone NAME`, outside every block, says where it stands");
        }
        (Some(own), Some(first)) if !zones.iter().any(named) && !pools.iter().any(is_mixed) => {
            let ours =
                drafts.iter().find(|draft| &*draft.name == "zone").and_then(|draft| draft.words.first());
            let others = zones.iter().map(|zone| &*zone.text.value);
            findings
                .warning(
                    ours.map_or(first.span, |word| word.span),
                    format!("no server stands in zone `{own}`"),
                )
                .maybe_hint(did_you_mean(own, others));
        }
        _ => {}
    }
}

fn gather_zones<'d>(drafts: &'d [Draft], zones: &mut Vec<&'d Value>) {
    for draft in drafts {
        let named = draft.options.iter().filter(|(name, _)| &*draft.name == "server" && &**name == "zone");
        zones.extend(named.map(|(_, value)| value));
        gather_zones(draft.block.as_deref().unwrap_or(&[]), zones);
    }
}

/// The name of a cookie (RFC 6265 §4.1.1).
pub fn cookie_name(text: &str) -> Result<String, Wrong> {
    values::field_name(text).map(|_| text.to_owned()).map_err(|_| Wrong::new("is not the name of a cookie"))
}

/// How long a cookie lasts: whole seconds, because that is how it is told.
pub fn ttl(text: &str) -> Result<std::time::Duration, Wrong> {
    let time = values::duration(text)?;
    if time.as_secs() > 0 && time.subsec_nanos() == 0 {
        return Ok(time);
    }
    Err(Wrong::new("is not a whole number of seconds"))
}

fn same_site(text: &str) -> Result<SameSite, Wrong> {
    match text {
        "lax" => Ok(SameSite::Lax),
        "strict" => Ok(SameSite::Strict),
        "none" => Ok(SameSite::None),
        _ => Err(values::one_of(text, &["lax", "strict", "none"]).err().unwrap_or(Wrong::new("is none"))),
    }
}
