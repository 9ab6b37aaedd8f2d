//! What stands beside `proxy`: `split`, `canary` and `mirror`.

use crate::args::Scene;
use crate::choosing;
use crate::draft::{Draft, Value};
use crate::findings::Span;
use crate::outside::Wrong;
use crate::pool::Pools;
use crate::values;
use portunus_relay::canary;
use portunus_relay::plan::{Canary, Forward, Mirror, RoutePlan, Share, Split};
use portunus_relay::values::parse_share;
use std::time::Duration;

/// How long a step lasts, unless written.
const EVERY: Duration = Duration::from_secs(5 * 60);
/// How much is added at each step, unless written.
const STEP: Share = Share(5_000);
/// When a canary gets nothing any more, unless written.
const ABORT: &str = "errors > 1% or p99 > 1.5x";
/// How many requests it must have had before it is judged, unless written.
const REQUESTS: u64 = 20;

/// What is written of it in one route.
#[derive(Default)]
pub struct Beside {
    split: Option<(Split, Span)>,
    canary: Option<(Canary, Span)>,
    mirror: Option<(Mirror, Span)>,
}

/// Where the requests of a route go.
pub struct Forwarding {
    /// The pools with their weights.
    pub forward: Vec<Forward>,
    /// By what a request stays with its part.
    pub split: Option<Split>,
    /// The pool that gets more and more.
    pub canary: Option<Canary>,
    /// The pool that gets copies.
    pub mirror: Option<Mirror>,
}

/// Whether a directive is one of these.
pub fn is_beside(name: &str) -> bool {
    matches!(name, "split" | "canary" | "mirror")
}

impl Beside {
    /// Reads one of these statements.
    pub fn read(&mut self, name: &str, draft: &Draft, pools: &mut Pools, scene: &mut Scene<'_, '_>) {
        match name {
            "split" => self.split = split(draft, scene).map(|split| (split, draft.span)),
            "canary" => self.canary = canary(draft, pools, scene).map(|canary| (canary, draft.span)),
            "mirror" => self.mirror = mirror(draft, pools, scene).map(|mirror| (mirror, draft.span)),
            _ => {}
        }
    }

    /// Together with the pools of the route's `proxy` statements.
    pub fn finish(self, forward: Vec<Forward>, scene: &mut Scene<'_, '_>) -> Forwarding {
        let has = |pool: &str| forward.iter().any(|forward| forward.pool == pool);
        let spans = [
            self.split.as_ref().map(|(_, span)| ("split", *span)),
            self.canary.as_ref().map(|(_, span)| ("canary", *span)),
            self.mirror.as_ref().map(|(_, span)| ("mirror", *span)),
        ];
        if forward.is_empty() && !scene.findings.any_error() {
            for (name, span) in spans.into_iter().flatten() {
                let reason = format!("`{name}` needs a `proxy` beside it");
                scene.findings.error(span, reason).hint("write `proxy POOL` in the same block");
            }
        }
        if let Some((_, span)) = self.split.as_ref().filter(|_| forward.len() == 1 && self.canary.is_none()) {
            let reason = "`split` has nothing to split: there is one `proxy` and no `canary`";
            scene.findings.error(*span, reason).hint("write several `proxy POOL weight=…` side by side");
        }
        if let Some((canary, span)) = self.canary.as_ref().filter(|(canary, _)| has(&canary.pool)) {
            let reason = format!("`canary {0}` and `proxy {0}` are the same pool", canary.pool);
            scene.findings.error(*span, reason).hint("the new version needs a pool of its own");
        }
        if let Some((mirror, span)) = self.mirror.as_ref().filter(|(mirror, _)| has(&mirror.pool)) {
            let reason = format!(
                "`mirror {0}` and `proxy {0}` are the same pool: it would get requests twice",
                mirror.pool
            );
            scene.findings.error(*span, reason);
        }
        Forwarding {
            forward,
            split: self.split.map(|(split, _)| split),
            canary: self.canary.map(|(canary, _)| canary),
            mirror: self.mirror.map(|(mirror, _)| mirror),
        }
    }
}

fn option<'d>(draft: &'d Draft, key: &str) -> Option<&'d Value> {
    draft.options.iter().find(|(name, _)| &**name == key).map(|(_, value)| value)
}

/// `split cookie=NAME [ttl=…]` or `split header=NAME`.
fn split(draft: &Draft, scene: &mut Scene<'_, '_>) -> Option<Split> {
    let ttl = option(draft, "ttl");
    match (option(draft, "cookie"), option(draft, "header")) {
        (Some(name), None) => {
            let name = scene.parse(name, choosing::cookie_name)?;
            Some(Split::Cookie { name, ttl: ttl.and_then(|value| scene.parse(value, choosing::ttl)) })
        }
        (None, Some(name)) => {
            if let Some(ttl) = ttl {
                scene
                    .findings
                    .error(ttl.span, "`ttl=` is for a cookie; a header field lasts for its request");
            }
            scene.parse(name, values::field_name).map(|name| Split::Header(name.as_str().to_owned()))
        }
        _ => {
            let reason = "`split` needs either `cookie=` or `header=`";
            scene.findings.error(draft.span, reason).hint("write `split cookie=version`");
            None
        }
    }
}

/// `canary POOL FROM..TO [step=…] [every=…] [abort=…] [requests=…]`.
fn canary(draft: &Draft, pools: &mut Pools, scene: &mut Scene<'_, '_>) -> Option<Canary> {
    let [target, range, ..] = draft.words.as_slice() else { return None };
    let pool = self::pool(target, draft, pools, scene);
    let range = scene.parse(range, shares);
    let step = option(draft, "step").map_or(Some(STEP), |value| scene.parse(value, some_share));
    let every = option(draft, "every").map_or(Some(EVERY), |value| scene.parse(value, at_least_a_second));
    let abort = option(draft, "abort").map_or(Some(ABORT.to_owned()), |value| scene.parse(value, conditions));
    let requests = option(draft, "requests")
        .map_or(Some(REQUESTS), |value| scene.parse(value, |text| values::number(text, 1, 1_000_000)));
    let (from, to) = range?;
    Some(Canary { pool: pool?, from, to, step: step?, every: every?, abort: abort?, requests: requests? })
}

/// `mirror POOL [share=…]`.
fn mirror(draft: &Draft, pools: &mut Pools, scene: &mut Scene<'_, '_>) -> Option<Mirror> {
    let pool = self::pool(draft.words.first()?, draft, pools, scene);
    let share = option(draft, "share").map_or(Some(Share::WHOLE), |value| scene.parse(value, some_share));
    Some(Mirror { pool: pool?, share: share? })
}

/// The pool that a word means: its name, or an address, which makes one.
fn pool(target: &Value, draft: &Draft, pools: &mut Pools, scene: &mut Scene<'_, '_>) -> Option<String> {
    let words = vec![target.clone()];
    let alone = Draft { name: draft.name.clone(), span: draft.span, words, options: Vec::new(), block: None };
    pools.target(&alone, scene)
}

fn share(text: &str) -> Result<Share, Wrong> {
    parse_share(text).map(Share).map_err(Wrong::from)
}

/// More than nothing.
fn some_share(text: &str) -> Result<Share, Wrong> {
    share(text).and_then(|share| if share.0 > 0 { Ok(share) } else { Err(Wrong::new("is nothing at all")) })
}

/// `1%..50%`.
fn shares(text: &str) -> Result<(Share, Share), Wrong> {
    let (from, to) = text
        .split_once("..")
        .ok_or_else(|| Wrong::new("is not a range of shares").hint("write it as `1%..50%`"))?;
    match (some_share(from), some_share(to)) {
        (Ok(from), Ok(to)) if from <= to => Ok((from, to)),
        (Ok(_), Ok(_)) => Err(Wrong::new("goes down")),
        (Err(wrong), _) => Err(Wrong { reason: format!("`{from}` {}", wrong.reason), ..wrong }),
        (_, Err(wrong)) => Err(Wrong { reason: format!("`{to}` {}", wrong.reason), ..wrong }),
    }
}

fn at_least_a_second(text: &str) -> Result<Duration, Wrong> {
    match values::duration(text)? {
        time if time >= Duration::from_secs(1) => Ok(time),
        _ => Err(Wrong::new("is less than a second, in which nothing can be judged")),
    }
}

fn conditions(text: &str) -> Result<String, Wrong> {
    canary::conditions(text).map(|_| text.to_owned()).map_err(Wrong::new)
}

/// What would be wrong with a route that a program wrote.
pub fn mistakes(route: &RoutePlan) -> Vec<String> {
    let mut mistakes = Vec::new();
    if let Some(canary) = &route.canary {
        if canary.from > canary.to || canary.from.0 == 0 || canary.step.0 == 0 {
            mistakes.push("the shares of `canary` do not rise".to_owned());
        }
        mistakes.extend(canary::conditions(&canary.abort).err());
        if canary.every < Duration::from_secs(1) || canary.requests == 0 {
            mistakes.push("`canary` judges too early".to_owned());
        }
    }
    match &route.split {
        Some(Split::Cookie { name, .. }) => {
            mistakes
                .extend(choosing::cookie_name(name).err().map(|wrong| format!("`{name}` {}", wrong.reason)));
        }
        Some(Split::Header(name)) => {
            mistakes.extend(values::field_name(name).err().map(|wrong| format!("`{name}` {}", wrong.reason)));
        }
        None => {}
    }
    let beside = [route.canary.as_ref().map(|it| &it.pool), route.mirror.as_ref().map(|it| &it.pool)];
    for pool in beside.into_iter().flatten() {
        if route.forward.is_empty() || route.forward.iter().any(|forward| forward.pool == *pool) {
            mistakes.push(format!("`{pool}` needs other pools beside it in `forward`"));
        }
    }
    mistakes
}
