//! again: `retry`, `max-in-flight`, `queue` and `hedge` of a pool; and what of it a site or a route has for itself.

use crate::args::Scene;
use crate::draft::{Draft, Value};
use crate::findings::Span;
use crate::mistake::did_you_mean;
use crate::outside::Wrong;
use crate::values;
use portunus_relay::plan::{
    Hedge, InFlight, NonIdempotent, Queue, Retry, RetryChange, RetryOn, RouteHedge, Urgency,
};
use portunus_relay::values::parse_share;
use std::time::Duration;

/// The most attempts that may be asked for.
const TRIES_MAX: u64 = 16;
/// The most requests that may be on a pool or a server, or wait.
const REQUESTS_MAX: u64 = 1_000_000;

/// What a site or a route has of this for itself.
#[derive(Clone, Default)]
pub struct OfRoute {
    /// Where it goes another way than its pools.
    pub retry: RetryChange,
    /// The same for asking a second host.
    pub hedge: Option<RouteHedge>,
    /// Whether its requests wait before or after others.
    pub urgency: Urgency,
    /// The first of these statements that the route has itself.
    written: Option<(&'static str, Span)>,
}

/// Whether a directive is one of those that a site or a route has, too.
pub fn is_for_routes(name: &str) -> bool {
    matches!(name, "retry" | "hedge" | "queue")
}

impl OfRoute {
    /// What a route of this site begins with.
    pub fn for_route(&self) -> OfRoute {
        OfRoute { written: None, ..self.clone() }
    }

    /// Reads one of these statements in a site or a route.
    pub fn read(&mut self, name: &'static str, draft: &Draft, scene: &mut Scene<'_, '_>) {
        self.written = self.written.or(Some((name, draft.span)));
        match name {
            "retry" => change(draft, &mut self.retry, scene),
            "hedge" => {
                let before = scene.findings.errors();
                let mut hedge = None;
                read_hedge(draft, &mut hedge, scene);
                if scene.findings.errors() == before {
                    self.hedge = Some(hedge.map_or(RouteHedge::Off, RouteHedge::After));
                }
            }
            _ => urgency(draft, &mut self.urgency, scene),
        }
    }

    /// Tells of a route that has such a statement and sends no requests anywhere.
    pub fn finish(&self, has_proxy: bool, scene: &mut Scene<'_, '_>) {
        if let Some((name, span)) = self.written.filter(|_| !has_proxy && !scene.findings.any_error()) {
            let reason = format!("`{name}` needs a `proxy` beside it");
            scene.findings.error(span, reason).hint("write `proxy POOL` in the same block");
        }
    }
}

/// `queue priority=high` of a route.
fn urgency(draft: &Draft, urgency: &mut Urgency, scene: &mut Scene<'_, '_>) {
    let of_pool = "how many wait, and for how long, is said in a `pool`; here `queue` takes `priority=` only";
    for word in &draft.words {
        scene.findings.error(word.span, of_pool).hint("write `pool NAME { queue … }`");
    }
    if draft.words.is_empty() && draft.options.is_empty() {
        scene
            .findings
            .error(draft.span, "`queue` says nothing")
            .hint("write `priority=high` or `priority=low`");
    }
    for (key, value) in &draft.options {
        match &**key {
            "priority" => set(urgency, scene.parse(value, priority)),
            "length" | "wait" => {
                scene.findings.error(value.span, of_pool).hint("write `pool NAME { queue … }`");
            }
            _ => {}
        }
    }
}

fn priority(text: &str) -> Result<Urgency, Wrong> {
    values::one_of(text, &["high", "normal", "low"])?;
    Ok(match text {
        "high" => Urgency::High,
        "low" => Urgency::Low,
        _ => Urgency::Normal,
    })
}

/// `retry tries=2 per-try=1s budget=10% on=connect,reset,503 non-idempotent=key`, or `retry off`.
pub fn retry(draft: &Draft, retry: &mut Retry, scene: &mut Scene<'_, '_>) {
    let mut changed = RetryChange::default();
    change(draft, &mut changed, scene);
    *retry = changed.on(retry);
}

fn change(draft: &Draft, retry: &mut RetryChange, scene: &mut Scene<'_, '_>) {
    if !draft.words.is_empty() {
        retry.tries = Some(1);
        if let Some((_, value)) = draft.options.first() {
            scene.findings.error(value.span, "`retry off` takes no options");
        }
        return;
    }
    if draft.options.is_empty() {
        scene.findings.error(draft.span, "`retry` says nothing").hint("write `tries=2` or `off`");
    }
    for (key, value) in &draft.options {
        match &**key {
            "tries" => set(&mut retry.tries, scene.parse(value, tries).map(Some)),
            "per-try" => set(&mut retry.per_try, scene.parse(value, some_time).map(Some)),
            "budget" => set(&mut retry.budget_percent, scene.parse(value, percent).map(Some)),
            "on" => set(&mut retry.on, scene.parse(value, conditions).map(Some)),
            "non-idempotent" => set(&mut retry.non_idempotent, scene.parse(value, non_idempotent).map(Some)),
            _ => {}
        }
    }
}

/// `max-in-flight 500`, `max-in-flight adaptive`, `max-in-flight off`.
pub fn max_in_flight(draft: &Draft, queue: &mut Queue, scene: &mut Scene<'_, '_>) {
    if let Some(word) = draft.words.first() {
        set(&mut queue.max_in_flight, scene.parse(word, in_flight));
    }
}

/// `queue length=1000 wait=1s`, or `queue off`.
pub fn queue(draft: &Draft, queue: &mut Queue, scene: &mut Scene<'_, '_>) {
    if !draft.words.is_empty() {
        queue.length = Some(0);
        if let Some((_, value)) = draft.options.first() {
            scene.findings.error(value.span, "`queue off` takes no options");
        }
        return;
    }
    if draft.options.is_empty() {
        scene
            .findings
            .error(draft.span, "`queue` says nothing")
            .hint("write `length=1000`, `wait=1s` or `off`");
    }
    for (key, value) in &draft.options {
        match &**key {
            "length" => set(&mut queue.length, scene.parse(value, |text| count(text, 1)).map(Some)),
            "wait" => set(&mut queue.wait, scene.parse(value, some_time).map(Some)),
            "priority" => {
                let reason = "`priority=` is for the requests of a route, not for a pool";
                scene
                    .findings
                    .error(value.span, reason)
                    .hint("write `queue priority=…` in a `route` or a `site`");
            }
            _ => {}
        }
    }
}

/// `hedge p95 max=500ms`, or `hedge off`.
pub fn read_hedge(draft: &Draft, hedge: &mut Option<Hedge>, scene: &mut Scene<'_, '_>) {
    let Some(word) = draft.words.first() else { return };
    let max = draft.options.first().and_then(|(_, value)| scene.parse(value, some_time));
    if word.text.value == "off" {
        *hedge = None;
        if let Some((_, value)) = draft.options.first() {
            scene.findings.error(value.span, "`hedge off` takes no options");
        }
    } else if let Some(percentile) = scene.parse(word, percentile) {
        *hedge = Some(Hedge { percentile, max });
    }
}

/// How many requests may be on one server.
pub fn of_server(value: &Value, scene: &mut Scene<'_, '_>) -> Option<u32> {
    scene.parse(value, |text| count(text, 1))
}

/// Puts a value in its place, if it could be read.
fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

/// How many attempts.
pub fn tries(text: &str) -> Result<u32, Wrong> {
    values::number(text, 1, TRIES_MAX).map(|tries| u32::try_from(tries).unwrap_or(1))
}

/// A duration that is longer than nothing.
pub fn some_time(text: &str) -> Result<Duration, Wrong> {
    match values::duration(text)? {
        Duration::ZERO => Err(Wrong::new("leaves no time at all")),
        time => Ok(time),
    }
}

fn count(text: &str, least: u64) -> Result<u32, Wrong> {
    values::number(text, least, REQUESTS_MAX).map(|count| u32::try_from(count).unwrap_or(u32::MAX))
}

fn percent(text: &str) -> Result<u32, Wrong> {
    match parse_share(text)? {
        share if share % 1000 == 0 => Ok(share / 1000),
        _ => Err(Wrong::new("is not a whole number of percent").hint("write `10%`")),
    }
}

fn percentile(text: &str) -> Result<u32, Wrong> {
    let number = text.strip_prefix('p').and_then(|number| number.parse().ok());
    number
        .filter(|percentile| (50..=99).contains(percentile))
        .ok_or_else(|| Wrong::new("is not a percentile from `p50` to `p99`").hint("write `p95`, or `off`"))
}

fn in_flight(text: &str) -> Result<InFlight, Wrong> {
    match text {
        "adaptive" => Ok(InFlight::Adaptive),
        "off" => Ok(InFlight::Unlimited),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => count(digits, 1).map(InFlight::Most),
        _ => Err(Wrong::new("is not a whole number").hint("write a number, `adaptive` or `off`")),
    }
}

fn conditions(text: &str) -> Result<Vec<RetryOn>, Wrong> {
    let mut list = Vec::new();
    let words = || RetryOn::ALL.iter().map(|(word, _)| *word);
    for word in text.split(',') {
        let Some((_, condition)) = RetryOn::ALL.iter().find(|(known, _)| *known == word) else {
            let hint = did_you_mean(word, words())
                .unwrap_or_else(|| format!("there are {}", words().collect::<Vec<_>>().join(", ")));
            let reason = match word {
                "" => "does not say on what to try again".to_owned(),
                _ => format!("holds `{word}`, on which nothing can be tried again"),
            };
            return Err(Wrong::new(reason).hint(hint));
        };
        if !list.contains(condition) {
            list.push(*condition);
        }
    }
    Ok(list)
}

fn non_idempotent(text: &str) -> Result<NonIdempotent, Wrong> {
    values::one_of(text, &["off", "key", "on"])?;
    Ok(match text {
        "key" => NonIdempotent::Key,
        "on" => NonIdempotent::On,
        _ => NonIdempotent::Off,
    })
}
