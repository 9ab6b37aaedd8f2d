//! Routes: which requests they are for, what happens to those, and whether any is left for them.

use crate::again::{self, OfRoute};
use crate::args::Scene;
use crate::bounds;
use crate::canary::{self, Beside, Forwarding};
use crate::directives::{self, Scope};
use crate::draft::{Draft, Value};
use crate::findings::Span;
use crate::mistake::did_you_mean;
use crate::outside::Wrong;
use crate::place::{Found, Seen};
use crate::pool::{self, Pools};
use crate::shadow;
use crate::vain::{self, Allowing};
use crate::values;
use portunus_message::target::TargetError;
use portunus_message::{Limits, Method, Target};
use portunus_relay::entry::Entry;
use portunus_relay::filter::Filter;
use portunus_relay::plan::{Directive, Forward, Matcher, PathMatch, RoutePlan, ValueMatch, ValueTest};
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

/// A route without its name.
pub struct Read {
    /// Which requests it is for.
    pub matcher: Matcher,
    /// Goes before precedence.
    pub priority: i32,
    /// The site's filters and its own.
    pub filters: Vec<Directive>,
    /// Where its requests go.
    pub forwarding: Forwarding,
    /// How its requests are tried again, and whether they wait first.
    pub again: OfRoute,
    /// The bounds that hold on it.
    pub limits: Arc<Limits>,
}

/// What a route begins with: what its site has.
pub struct Outer<'a> {
    /// The filters that hold for every route.
    pub filters: &'a [Directive],
    /// The bounds.
    pub limits: &'a Arc<Limits>,
    /// How requests are tried again.
    pub again: &'a OfRoute,
}

/// `route MATCH … { … }` in a site with all this.
pub fn read(draft: &Draft, outer: &Outer<'_>, pools: &mut Pools, scene: &mut Scene<'_, '_>) -> Option<Read> {
    let before = scene.findings.errors();
    let (matcher, priority) = matcher(draft, scene);
    let mut filters = outer.filters.to_vec();
    let mut allowing = Allowing::default();
    let mut limits = Arc::clone(outer.limits);
    let mut again = outer.again.for_route();
    let mut forwards = Forwards::default();
    let mut answer = Answer::default();
    let mut seen = Seen::default();
    for draft in draft.block.as_deref().unwrap_or(&[]) {
        match scene.find(draft, Scope::Route, &mut seen) {
            Found::Filter(entry) => {
                if !answer.is_met_by(entry, draft, scene) && answer.there_is() {
                    answer.is_before(draft.span, scene);
                }
                if let Some(filter) = scene.build(entry, draft) {
                    vain::look(&filters, outer.filters.len(), &filter, draft.span, scene.findings);
                    allowing.next(&filters, &filter, draft.span);
                    filters.push(filter);
                }
            }
            Found::Form(form) if form.name == "proxy" => forwards.read(draft, pools, scene),
            Found::Form(form) if canary::is_beside(form.name) => {
                forwards.beside.read(form.name, draft, pools, scene);
            }
            Found::Form(form) if again::is_for_routes(form.name) => again.read(form.name, draft, scene),
            Found::Form(_) => bounds::read(draft, Scope::Route, Arc::make_mut(&mut limits), scene),
            Found::Nothing => {}
        }
    }
    allowing.end(scene.findings);
    // Where something in it was wrong already, nothing is known about what it does.
    answer.is_beside(&forwards, scene);
    if !answer.there_is() && !forwards.any && draft.block.is_some() && scene.findings.errors() == before {
        let reason = "this route does nothing: it has no `proxy`, and no filter in it answers";
        scene.findings.error(draft.span, reason).hint("write `proxy 127.0.0.1:3000` in it");
    }
    again.finish(forwards.any, scene);
    let forwarding = forwards.finish(scene);
    let read = Read { matcher, priority, filters, forwarding, again, limits };
    (scene.findings.errors() == before).then_some(read)
}

/// The first filter of a block that answers every request, so that nothing comes to what is behind it.
#[derive(Default)]
pub struct Answer {
    by: Option<&'static str>,
}

impl Answer {
    /// Whether there is one.
    pub fn there_is(&self) -> bool {
        self.by.is_some()
    }

    /// Whether `draft`, which asks for this filter, is the first one.
    pub fn is_met_by(&mut self, entry: &Entry<dyn Filter>, draft: &Draft, scene: &mut Scene<'_, '_>) -> bool {
        if !entry.answers {
            return false;
        }
        if self.there_is() {
            self.is_before(draft.span, scene);
            return true;
        }
        self.by = Some(entry.name);
        true
    }

    /// Nothing comes to what stands at `span`.
    pub fn is_before(&self, span: Span, scene: &mut Scene<'_, '_>) {
        if let Some(name) = self.by {
            let reason = format!("no request gets here: the `{name}` beside it answers them all");
            scene.findings.warning(span, reason);
        }
    }

    /// Nothing is forwarded where everything is answered.
    pub fn is_beside(&self, forwards: &Forwards, scene: &mut Scene<'_, '_>) {
        if let Some(span) = forwards.span {
            self.is_before(span, scene);
        }
    }
}

/// The `proxy` statements that stand side by side.
#[derive(Default)]
pub struct Forwards {
    /// Whether there is one, right or wrong.
    pub any: bool,
    /// Where the first one stands.
    pub span: Option<Span>,
    /// What stands beside them.
    pub beside: Beside,
    list: Vec<Forward>,
    seen: HashMap<String, Span>,
}

impl Forwards {
    /// `proxy TARGET …`.
    pub fn read(&mut self, draft: &Draft, pools: &mut Pools, scene: &mut Scene<'_, '_>) {
        self.any = true;
        self.span = self.span.or(Some(draft.span));
        let weight = draft.options.iter().find(|(key, _)| &**key == "weight");
        let weight = weight.map_or(Some(1), |(_, value)| scene.parse(value, pool::weight));
        let Some(pool) = pools.target(draft, scene) else { return };
        if let Some(first) = self.seen.insert(pool.clone(), draft.span) {
            scene.twice(draft.span, &format!("`proxy {pool}`"), first);
        }
        self.list.push(Forward { pool, weight: weight.unwrap_or(1) });
    }

    /// The pools with their shares.
    pub fn finish(self, scene: &mut Scene<'_, '_>) -> Forwarding {
        if let (Some(span), true) =
            (self.span, !self.list.is_empty() && self.list.iter().all(|one| one.weight == 0))
        {
            scene
                .findings
                .error(span, "every `proxy` here has weight 0, so no request would be sent anywhere");
        }
        self.beside.finish(self.list, scene)
    }
}

/// The routes of one site.
pub struct Routes {
    site: String,
    plans: Vec<RoutePlan>,
    /// Where each of them stands.
    spans: Vec<Span>,
    /// Where each matcher was written, with which priority, as which route.
    seen: HashMap<String, (Span, i32, usize)>,
}

impl Routes {
    /// None yet, of about so many, in a site that is called so.
    pub fn new(site: String, count: usize) -> Routes {
        Routes {
            site,
            plans: Vec::with_capacity(count),
            spans: Vec::new(),
            seen: HashMap::with_capacity(count),
        }
    }

    /// Adds a route, unless another one takes all its requests.
    pub fn add(&mut self, read: Read, span: Span, scene: &mut Scene<'_, '_>) {
        let Read { matcher, priority, filters, forwarding, again, limits } = read;
        let Forwarding { forward, split, canary, mirror } = forwarding;
        let mut written = written(&matcher);
        let at = self.plans.len();
        if let Some(&(first, other, index)) =
            self.seen.get(&written).filter(|(_, other, _)| *other != priority)
        {
            // What is kept of a route is kept by its name: one without a priority has the same whatever stands beside it.
            let with = |priority| format!("{written} priority={priority}");
            if priority == 0 {
                self.seen.remove(&written);
                self.seen.insert(with(other), (first, other, index));
                if let Some(plan) = self.plans.get_mut(index) {
                    plan.name = format!("{}{}", self.site, with(other));
                }
            } else {
                written = with(priority);
            }
        }
        if let Some((first, ..)) = self.seen.insert(written.clone(), (span, priority, at)) {
            let reason = "no request gets here: another route of the site is for the same ones";
            scene.findings.error(span, reason).earlier(first);
            return;
        }
        let name = format!("{}{written}", self.site);
        self.spans.push(span);
        self.plans.push(RoutePlan {
            name,
            matcher,
            priority,
            filters,
            forward,
            split,
            canary,
            mirror,
            retry: again.retry,
            hedge: again.hedge,
            urgency: again.urgency,
            limits,
        });
    }

    /// As written. Those that no request gets to are mistakes. Where it is a pattern behind all paths, that is only
    /// said: elsewhere patterns go first, and what was written there serves all the same. So it is where a
    /// priority does it: whoever wrote that wanted it, and may want the other routes back in an hour.
    pub fn into_plans(self, scene: &mut Scene<'_, '_>) -> Vec<RoutePlan> {
        for (at, by) in shadow::shadows(&self.plans) {
            let (Some(span), Some(first)) = (self.spans.get(at), self.spans.get(by)) else { continue };
            let reason = "no request gets here: another route of the site goes before it, and takes them all";
            let priority = |at: usize| self.plans.get(at).map(|route| route.priority);
            let path = |at: usize| self.plans.get(at).map(|route| &route.matcher.path);
            let finding = match (path(at), path(by)) {
                (Some(PathMatch::Pattern(_)), Some(PathMatch::Prefix(_))) => scene
                    .findings
                    .warning(*span, reason)
                    .hint("a path goes before a pattern: write `route *` for what no other takes, or give the pattern a `priority=`"),
                _ if priority(by) > priority(at) => scene.findings.warning(*span, reason),
                _ => scene.findings.error(*span, reason),
            };
            finding.earlier(*first);
        }
        self.plans
    }
}

/// A matcher nearly as it would be written, on one line; the same for two that fit the same requests, and only for those.
fn written(matcher: &Matcher) -> String {
    let mut text = match &matcher.path {
        PathMatch::Any => "/*".to_owned(),
        PathMatch::Exact(path) => path.clone(),
        PathMatch::Prefix(path) => format!("{}/*", path.trim_end_matches('/')),
        PathMatch::Pattern(pattern) => format!(" ~{}", quoted(pattern)),
    };
    if !matcher.methods.is_empty() {
        let _ = write!(text, " method={}", sorted(matcher.methods.clone()).join(","));
    }
    for (part, tests) in
        [("header", &matcher.headers), ("query", &matcher.queries), ("cookie", &matcher.cookies)]
    {
        if tests.is_empty() {
            continue;
        }
        let test = |test: &ValueMatch| match &test.value {
            ValueTest::Present => format!(" {part}.{}=*", test.name),
            ValueTest::Exact(value) => format!(" {part}.{}={}", test.name, quoted(value)),
            ValueTest::Pattern(pattern) => format!(" {part}.{}=~{}", test.name, quoted(pattern)),
        };
        text.push_str(&sorted(tests.iter().map(test).collect()).concat());
    }
    if !matcher.clients.is_empty() {
        let clients = matcher.clients.iter().map(ToString::to_string).collect();
        let _ = write!(text, " client={}", sorted(clients).join(","));
    }
    text
}

fn sorted(mut list: Vec<String>) -> Vec<String> {
    list.sort();
    list
}

/// In quotes, when it could otherwise be taken for something else.
fn quoted(value: &str) -> String {
    let plain = |c: char| !(c.is_whitespace() || c.is_control() || c == '"');
    let ambiguous = value.is_empty() || value == "*" || value.starts_with('~');
    if value.chars().all(plain) && !ambiguous { value.to_owned() } else { format!("{value:?}") }
}

fn matcher(draft: &Draft, scene: &mut Scene<'_, '_>) -> (Matcher, i32) {
    let mut matcher = Matcher::default();
    let mut priority = 0;
    match draft.words.as_slice() {
        [] if draft.options.is_empty() => {
            scene
                .findings
                .error(draft.span, "`route` needs a path, or another condition")
                .hint("for every path write `route *`");
        }
        [] => {}
        [path, rest @ ..] => {
            matcher.path = scene.parse(path, path_match).unwrap_or_default();
            if let Some(more) = rest.first() {
                let hint = match more.text.value.starts_with(['/', '~', '*']) {
                    true => "write one route for each path".to_owned(),
                    false => "the other conditions are written `method=…`, `header.NAME=…`, `query.NAME=…`"
                        .to_owned(),
                };
                scene.findings.error(more.span, "`route` takes one path").hint(hint);
            }
        }
    }
    let mut seen: HashMap<&str, Span> = HashMap::new();
    for (key, value) in &draft.options {
        if let Some(first) = seen.insert(key, value.span) {
            scene.twice(value.span, &format!("`{key}=`"), first);
        }
        match key.split_once('.') {
            Some((part @ ("header" | "query" | "cookie"), "")) => {
                let reason = format!("`{key}=` does not say which {part} is meant");
                scene.findings.error(value.span, reason).hint(format!("write `{part}.NAME=…`"));
            }
            Some((part @ ("header" | "query" | "cookie"), _)) if value.text.written.is_some() => {
                // The plan is printed and routes are named after their conditions.
                let reason =
                    format!("a secret cannot stand in a `{part}` condition, which logs and metrics show");
                scene.findings.error(value.span, reason);
            }
            Some(("header", name)) => {
                let test = scene.parse(value, value_test);
                match values::asked_field(name) {
                    Ok(name) => matcher.headers.extend(named(name.as_str().to_ascii_lowercase(), test)),
                    Err(Wrong { reason, hint }) => {
                        scene.findings.error(value.span, format!("`{name}` {reason}")).maybe_hint(hint);
                    }
                }
            }
            Some(("query", name)) => {
                matcher.queries.extend(named(name.to_owned(), scene.parse(value, value_test)))
            }
            Some(("cookie", name)) => {
                matcher.cookies.extend(named(name.to_owned(), scene.parse(value, value_test)))
            }
            None if &**key == "method" => matcher.methods = list(value, method, scene),
            None if &**key == "client" => matcher.clients = list(value, values::network, scene),
            None if &**key == "priority" => priority = scene.parse(value, number).unwrap_or(0),
            _ => unknown(draft, key, value, scene),
        }
    }
    (matcher, priority)
}

fn unknown(draft: &Draft, key: &str, value: &Value, scene: &mut Scene<'_, '_>) {
    if let Some((part, name)) = key.split_once('.') {
        let near = did_you_mean(part, ["header", "query", "cookie"]);
        let hint = near.map(|hint| hint.replace("`?", &format!(".{name}=`?")));
        let reason = format!("`route` has no option `{key}=`");
        scene.findings.error(value.span, reason).maybe_hint(hint);
        return;
    }
    let form = directives::find("route", Scope::Site);
    scene.unknown_option(draft, key, value, form.map_or(&[], |form| form.params));
}

fn named(name: String, test: Option<ValueTest>) -> Option<ValueMatch> {
    test.map(|value| ValueMatch { name, value })
}

/// `a,b,c`, each part as `parse` reads it.
pub fn list<T: PartialEq>(
    value: &Value,
    parse: impl Fn(&str) -> Result<T, Wrong>,
    scene: &mut Scene<'_, '_>,
) -> Vec<T> {
    let mut list = Vec::new();
    for part in value.text.value.split(',') {
        match parse(part.trim()) {
            Ok(one) if list.contains(&one) => {
                scene.findings.error(value.span, format!("`{part}` stands here twice"));
            }
            Ok(one) => list.push(one),
            Err(Wrong { reason, hint }) => {
                scene.findings.error(value.span, format!("`{part}` {reason}")).maybe_hint(hint);
            }
        }
    }
    list
}

fn number(text: &str) -> Result<i32, Wrong> {
    let fits = |number: &i32| (-1_000_000..=1_000_000).contains(number);
    text.parse().ok().filter(fits).ok_or_else(|| Wrong::new("is not a whole number from -1000000 to 1000000"))
}

fn method(text: &str) -> Result<String, Wrong> {
    if let Some(method) = Method::parse(text.as_bytes()) {
        return Ok(method.as_str().to_owned());
    }
    let upper = Method::parse(text.to_ascii_uppercase().as_bytes()).map(|method| format!("write `{method}`"));
    let hint = upper.or_else(|| did_you_mean(text, Method::all().map(Method::as_str)));
    Err(Wrong { hint, ..Wrong::new("is not a registered method") })
}

/// `*`: it is there; `~…`: a pattern; anything else: exactly that.
fn value_test(text: &str) -> Result<ValueTest, Wrong> {
    match text.strip_prefix('~') {
        Some(pattern) => {
            values::regex(&format!("^(?:{pattern})$")).map(|()| ValueTest::Pattern(pattern.to_owned()))
        }
        None if text == "*" => Ok(ValueTest::Present),
        None => Ok(ValueTest::Exact(text.to_owned())),
    }
}

/// `/exact`, `/prefix/*`, `~pattern`, `*`.
fn path_match(text: &str) -> Result<PathMatch, Wrong> {
    if let Some(pattern) = text.strip_prefix('~') {
        return values::regex(pattern).map(|()| PathMatch::Pattern(pattern.to_owned()));
    }
    if text == "*" {
        return Ok(PathMatch::Any);
    }
    if text == "/*" {
        return Ok(PathMatch::Prefix("/".to_owned()));
    }
    if !text.starts_with('/') {
        let wrong = Wrong::new("is not a path; a path begins with `/`");
        let plain = !text.is_empty() && !text.contains([':', '.', '=']);
        return Err(if plain { wrong.hint(format!("write `/{text}`")) } else { wrong });
    }
    let (path, prefix) = match text.strip_suffix("/*") {
        Some(path) => (path, true),
        None => (text, false),
    };
    if let Some(at) = path.find('*') {
        let before = path.get(..at).unwrap_or("").trim_end_matches('/');
        let hint = match prefix || at + 1 < path.len() {
            true => format!("write a regular expression, as in `~^{before}/[^/]+/`"),
            false => format!(
                "write `{before}/*` for that path and all below it, or `~^{before}` for all that begins so"
            ),
        };
        return Err(Wrong::new("has a `*` that is not a whole last segment").hint(hint));
    }
    if path.contains('?') {
        return Err(Wrong::new("has a query, which a path cannot have")
            .hint("write `query.NAME=VALUE` behind the path"));
    }
    let path = normal(path, if prefix { "/*" } else { "" })?;
    Ok(if prefix { PathMatch::Prefix(path) } else { PathMatch::Exact(path) })
}

/// A path must stand in the normal form in which requests are compared with it; `behind` is what stands behind it.
pub fn normal(path: &str, behind: &str) -> Result<String, Wrong> {
    let escaped: String = path.bytes().fold(String::new(), |mut text, byte| {
        match byte {
            b'!'..=b'~' if !matches!(byte, b'#' | b'\\') => text.push(char::from(byte)),
            _ => _ = write!(text, "%{byte:02X}"),
        }
        text
    });
    let trimmed = |c: char| c == '/' && !behind.is_empty();
    let mut target = Target::new();
    match target.set_path(escaped.as_bytes()) {
        Ok(()) if target.compared_path() == path => Ok(path.to_owned()),
        Ok(()) => Err(Wrong::new("is not in the normal form in which paths are compared")
            .hint(format!("write `{}{behind}`", target.compared_path().trim_end_matches(trimmed)))),
        Err(TargetError::AboveRoot) => Err(Wrong::new("climbs above the root")),
        Err(_) => Err(Wrong::new("holds what no request's path can hold")),
    }
}
