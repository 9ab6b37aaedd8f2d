//! Plan ⇄ JSON: for machines, checked like what people write, and printed without secrets.

use crate::args::{Registry, Scene};
use crate::draft::{self, Draft};
use crate::findings::{Findings, Sources, Span};
use crate::mistake::did_you_mean;
use crate::outside::{Outside, Wrong};
use crate::providers::SECRETS;
use crate::settings::believes_anybody;
use crate::{acme, bounds, canary, choosing, handshake, health, pool, route, settings, tls, values};
use portunus_message::Method;
use portunus_relay::entry::Entry;
use portunus_relay::plan::{
    Admin, Check, Directive, Dns, InFlight, Listen, Matcher, PathMatch, Plan, PoolPlan, RouteHedge,
    RoutePlan, Signer, SitePlan, SiteTls, Sticky, Text, ValueTest,
};
use portunus_relay::prefaces::Prefaces;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::SystemTime;

/// The plan as JSON. What was filled in from outside appears as it was written: `${env.…}`, `${file.…}`, the name of a file.
pub fn adapt(plan: &Plan) -> String {
    // Invariant: every key of a plan is a string, so it can be written as JSON.
    let mut text = serde_json::to_string_pretty(plan).unwrap_or_default();
    text.push('\n');
    text
}

/// The JSON Schema of a plan.
pub fn schema() -> String {
    let mut text = serde_json::to_string_pretty(&schemars::schema_for!(Plan)).unwrap_or_default();
    text.push('\n');
    text
}

/// Reads a plan in JSON, and checks what can be wrong with it.
pub fn read(
    name: &str,
    text: &str,
    registry: Registry,
    sources: &mut Sources,
    outside: &mut Outside<'_>,
    findings: &mut Findings,
) -> Plan {
    let text = text.trim_start_matches('\u{feff}');
    let file = sources.add(name.to_owned(), text.to_owned());
    outside.enter(Path::new(name));
    let mut plan = match serde_json::from_str::<Plan>(text) {
        Ok(plan) => plan,
        Err(error) => {
            refused(file, text, &error, findings);
            return Plan::default();
        }
    };
    nameless(file, text, &plan, findings);
    let mut checker = Checker {
        scene: Scene { registry, outside, findings, trusts_nobody: plan.settings.trusted_proxies.is_empty() },
        file,
        pools: HashSet::new(),
        secure: HashMap::new(),
    };
    checker.plan(&mut plan);
    checker.scene.findings.place.clear();
    plan
}

/// Tells what serde refused, with the names it would have taken.
fn refused(file: u32, text: &str, error: &serde_json::Error, findings: &mut Findings) {
    let line: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let at = (line + error.column().saturating_sub(1)).min(text.len());
    let whole = error.to_string();
    let reason = whole.split(" at line ").next().unwrap_or(&whole);
    let mut quoted = reason.split('`').skip(1).step_by(2);
    let unknown = quoted.next().filter(|_| reason.starts_with("unknown "));
    let hint = unknown.and_then(|unknown| did_you_mean(unknown, quoted)).or_else(|| {
        // Somebody has put a block around everything, or around the settings.
        let hint = "a file that begins with `{` is read as JSON; settings, pools and sites stand at the top, with no block around them";
        (reason == "key must be a string").then(|| hint.to_owned())
    });
    findings.error(Span::new(file, at, at + 1), reason).maybe_hint(hint);
}

/// Tells of lists that stand where a plan has names: serde takes what is in them by its order.
fn nameless(file: u32, text: &str, plan: &Plan, findings: &mut Findings) {
    fn find(written: &Value, meant: &Value, place: &str, found: &mut Vec<String>) {
        match (written, meant) {
            (Value::Array(_), Value::Object(_)) => found.push(place.to_owned()),
            (Value::Array(written), Value::Array(meant)) => {
                for (at, (written, meant)) in written.iter().zip(meant).enumerate() {
                    find(written, meant, &format!("{place}[{at}]"), found);
                }
            }
            (Value::Object(written), Value::Object(meant)) => {
                for (key, written) in written {
                    let Some(meant) = meant.get(key) else { continue };
                    let dot = if place.is_empty() { "" } else { "." };
                    find(written, meant, &format!("{place}{dot}{key}"), found);
                }
            }
            _ => {}
        }
    }
    let (Ok(written), Ok(meant)) = (serde_json::from_str(text), serde_json::to_value(plan)) else { return };
    let mut found = Vec::new();
    find(&written, &meant, "", &mut found);
    for place in found {
        findings.error(Span::whole(file), format!("{place}: it is a list, and has to be an object"));
    }
}

struct Checker<'a, 'o> {
    scene: Scene<'a, 'o>,
    file: u32,
    pools: HashSet<String>,
    /// Whether TLS is spoken at an address.
    secure: HashMap<Listen, bool>,
}

impl Checker<'_, '_> {
    fn plan(&mut self, plan: &mut Plan) {
        self.scene.findings.place = "settings".to_owned();
        if let Admin::Tcp { token, .. } = &mut plan.settings.admin {
            self.fill(token);
            if token.value.len() < 8 {
                self.wrong("the admin token is shorter than 8 bytes, which can be guessed");
            }
        }
        if let Some(wrong) = settings::taken(&plan.settings.admin, &plan.sites) {
            self.wrong(&wrong.reason);
        }
        if let Some(anybody) = plan.settings.trusted_proxies.iter().find(|one| believes_anybody(one)) {
            self.wrong(&format!("`{anybody}` cannot be trusted: anybody could claim any address"));
        }
        bounds::mistakes(&plan.settings.limits).iter().for_each(|mistake| self.wrong(mistake));
        if plan.settings.workers.is_some_and(|count| !(1..=1024).contains(&count)) {
            self.wrong("`workers` is not a number from 1 to 1024");
        }
        if let Some(zone) = plan.settings.zone.as_deref() {
            self.checked(zone, choosing::zone);
        }
        self.acme(plan);
        for (at, pool) in plan.pools.iter_mut().enumerate() {
            self.scene.findings.place = format!("pools[{at}]");
            self.pool(pool);
        }
        self.scene.findings.place = "sites".to_owned();
        if let Err(mistake) = Prefaces::compile(plan) {
            self.wrong(&mistake.reason);
        }
        let mut sites = HashSet::new();
        let mut routes = HashSet::new();
        for (at, site) in plan.sites.iter_mut().enumerate() {
            self.scene.findings.place = format!("sites[{at}]");
            self.site(site, &mut sites);
            for (route_at, route) in site.routes.iter_mut().enumerate() {
                self.scene.findings.place = format!("sites[{at}].routes[{route_at}]");
                if !routes.insert(route.name.clone()) {
                    self.wrong(&format!("the name `{}` is there twice", route.name));
                }
                self.route(route);
                if *route.limits != plan.settings.limits {
                    bounds::mistakes(&route.limits).iter().for_each(|mistake| self.wrong(mistake));
                }
            }
        }
    }

    fn wrong(&mut self, reason: &str) {
        self.scene.findings.error(Span::whole(self.file), reason);
    }

    fn pool(&mut self, pool: &mut PoolPlan) {
        if !self.pools.insert(pool.name.clone()) {
            self.wrong(&format!("pool `{}` is there twice", pool.name));
        }
        if pool.servers.is_empty() {
            self.wrong(&format!("pool `{}` has no server", pool.name));
        }
        let mut seen = HashSet::new();
        for server in &pool.servers {
            let written = server.address.to_string();
            match values::address(&written) {
                Ok(address) if address == server.address => {}
                Ok(_) => self.wrong(&format!("`{written}` is not in its normal form")),
                Err(wrong) => self.wrong(&format!("`{written}` {}", wrong.reason)),
            }
            if u64::from(server.weight) > pool::WEIGHT_MAX {
                self.wrong(&format!("the weight of `{written}` is more than {}", pool::WEIGHT_MAX));
            }
            if !seen.insert(&server.address) {
                self.wrong(&format!("server `{written}` is there twice"));
            }
        }
        if let Some(plan) = &pool.tls {
            if plan.insecure {
                let reason = format!("pool `{}` believes whoever answers: `insecure`", pool.name);
                self.scene.findings.warning(Span::whole(self.file), reason);
            }
            if !plan.insecure
                && let Err(wrong) = tls::roots(plan.ca.clone(), self.scene.outside)
            {
                self.wrong(&wrong.reason);
            }
            if let Some(Err((_, wrong))) =
                plan.identity.as_ref().map(|own| tls::prove(own, self.scene.outside))
            {
                self.wrong(&wrong.reason);
            }
            if plan.name.as_ref().is_some_and(|name| values::host(name).as_ref() != Ok(name)) {
                self.wrong("`name` of `tls` is not a host name in its normal form");
            }
        }
        if !(1..=16).contains(&pool.retry.tries) {
            self.wrong("`tries` is not a number from 1 to 16");
        }
        if pool.retry.budget_percent > 100 {
            self.wrong("`budget-percent` is more than 100");
        }
        if pool.retry.per_try.is_some_and(|time| time.is_zero()) {
            self.wrong("`per-try` leaves no time at all");
        }
        let most = pool.servers.iter().filter_map(|server| server.max_in_flight);
        let mut most = most.chain(match pool.queue.max_in_flight {
            InFlight::Most(most) => Some(most),
            InFlight::Adaptive | InFlight::Unlimited => None,
        });
        if most.any(|most| most == 0) {
            self.wrong("`max-in-flight` lets nothing through");
        }
        if pool.hedge.is_some_and(|hedge| !(50..=99).contains(&hedge.percentile)) {
            self.wrong("`percentile` is not a number from 50 to 99");
        }
        if pool.connect_timeout.is_zero() {
            self.wrong("`connect-timeout` leaves no time at all");
        }
        if let Some(wrong) = health::mistake_in_eject(&pool.eject) {
            self.wrong(&wrong);
        }
        if let Some(health) = &mut pool.health {
            if let Check::Http(check) = &mut health.check {
                check.send.values_mut().for_each(|text| self.fill(text));
            }
            if let Some(wrong) = health::mistake_in(health) {
                self.wrong(&wrong);
            }
        }
        if let Some(sticky) = &mut pool.sticky {
            self.sticky(sticky);
        }
        for zone in pool.servers.iter().filter_map(|server| server.zone.as_deref()) {
            self.checked(zone, choosing::zone);
        }
        let policies = self.scene.registry.policies;
        self.directive(&mut pool.balance, policies, "policy");
    }

    /// Who signs certificates that nobody wrote down.
    fn acme(&mut self, plan: &mut Plan) {
        for account in plan.settings.acme.authorities.iter_mut().filter_map(|ca| ca.external_account.as_mut())
        {
            self.fill(&mut account.key);
            acme::hide(&mut account.key);
        }
        if let Some(Dns::Provider(provider)) = &mut plan.settings.acme.dns {
            for (key, text) in &mut provider.settings {
                self.fill(text);
                if SECRETS.contains(&key.as_str()) {
                    acme::hide(text);
                }
            }
        }
        let has_providers = self.scene.outside.environment.has_providers;
        for mistake in acme::mistakes(&plan.settings.acme, has_providers) {
            self.wrong(&mistake);
        }
        let tls = || plan.sites.iter().filter_map(|site| site.tls.as_ref());
        let mut wanted = tls().flat_map(|tls| &tls.automatic);
        if let Some(wrong) = wanted.find(|one| {
            let bare = one.name.trim_start_matches("*.");
            values::host(bare).as_deref() != Ok(bare)
        }) {
            self.wrong(&format!("`{}` is not a host name in its normal form", wrong.name));
        }
        let on_demand = tls().any(|tls| tls.on_demand == Some(Signer::Acme));
        if on_demand && plan.settings.acme.ask.is_none() {
            self.wrong("`on-demand` needs `ask` in `acme`");
        }
        if on_demand || tls().flat_map(|tls| &tls.automatic).any(|one| one.by == Signer::Acme) {
            for file in plan.settings.acme.trusts() {
                if let Err(wrong) = tls::roots(file, self.scene.outside) {
                    self.wrong(&wrong.reason);
                }
            }
        }
    }

    /// What a route has of its own for trying again.
    fn again(&mut self, route: &RoutePlan) {
        if route.retry.tries.is_some_and(|tries| !(1..=16).contains(&tries)) {
            self.wrong("`tries` is not a number from 1 to 16");
        }
        if route.retry.budget_percent.is_some_and(|percent| percent > 100) {
            self.wrong("`budget-percent` is more than 100");
        }
        if route.retry.per_try.is_some_and(|time| time.is_zero()) {
            self.wrong("`per-try` leaves no time at all");
        }
        if let Some(RouteHedge::After(hedge)) = route.hedge
            && !(50..=99).contains(&hedge.percentile)
        {
            self.wrong("`percentile` is not a number from 50 to 99");
        }
    }

    fn sticky(&mut self, sticky: &mut Sticky) {
        self.fill(&mut sticky.key);
        self.checked(&sticky.cookie.clone(), choosing::cookie_name);
        if sticky.key.written.is_none() {
            self.wrong("the key of `sticky` stands in the plan itself");
        } else if let Err(reason) = portunus_relay::sticky::keys(&sticky.key.value) {
            self.wrong(&format!("`sticky`: {reason}"));
        }
        if sticky.ttl.is_some_and(|ttl| ttl.as_secs() == 0 || ttl.subsec_nanos() > 0) {
            self.wrong("`ttl` is not a whole number of seconds");
        }
    }

    fn checked<T>(&mut self, text: &str, parse: impl Fn(&str) -> Result<T, Wrong>) {
        if let Err(wrong) = parse(text) {
            self.wrong(&format!("`{text}` {}", wrong.reason));
        }
    }

    fn site(&mut self, site: &SitePlan, sites: &mut HashSet<String>) {
        if site.names.is_empty() || site.listen.is_empty() {
            self.wrong("a site needs a name and an address to listen on");
        }
        if site.routes.is_empty() {
            self.wrong("this site has no route, so nothing in it answers");
        }
        for name in &site.names {
            for listen in &site.listen {
                if !sites.insert(format!("{listen} {name}")) {
                    self.wrong(&format!("site `{name}` at {listen} is there twice"));
                }
            }
            let (text, bare) = (name.to_string(), name.to_string().trim_start_matches("*.").to_owned());
            if text != "*" && values::host(&bare).as_ref() != Ok(&bare) {
                self.wrong(&format!("`{text}` is not a host name in its normal form"));
            }
        }
        for one in &site.prefaced {
            if !site.listen.contains(&one.listen) {
                self.wrong("`prefaced` names an address that the site does not listen at");
            }
            let is_open = matches!(one.listen, Listen::Tcp(_)) && self.scene.trusts_nobody;
            if one.from.is_empty() && is_open {
                self.wrong("it is not known whose PROXY headers are to be believed: `from` is empty");
            }
            if one.from.iter().any(believes_anybody) {
                self.wrong("`from` believes anybody: every address could be claimed");
            }
        }
        let tls = site.tls.as_ref();
        for listen in &site.listen {
            let secure = tls.is_some_and(|tls| tls.listen.contains(listen));
            if *self.secure.entry(listen.clone()).or_insert(secure) != secure {
                self.wrong(&format!("some sites speak TLS at {listen}, and others plain HTTP"));
            }
        }
        if tls.is_some_and(|tls| tls.listen.iter().any(|listen| !site.listen.contains(listen))) {
            self.wrong("`tls` names an address that the site does not listen at");
        }
        let obtains = |tls: &SiteTls| !tls.automatic.is_empty() || tls.on_demand.is_some();
        if tls.is_some_and(|tls| tls.certificates.is_empty() && !obtains(tls)) {
            self.wrong("`tls` has no certificate");
        }
        let proved = tls.into_iter().flat_map(|tls| &tls.certificates);
        let proved = proved.filter_map(|files| tls::prove(files, self.scene.outside).ok());
        let proved: Vec<_> = proved.collect();
        if let Some(wrong) =
            tls.and_then(|tls| handshake::contradiction(&tls.settings, &proved, obtains(tls)))
        {
            self.wrong(&wrong.reason);
        }
        let is_open = tls.is_some_and(|tls| tls.listen.len() < site.listen.len());
        if is_open && tls.and_then(|tls| tls.settings.client_auth.as_ref()).is_some_and(|auth| auth.required)
        {
            self.wrong("the site also speaks plain HTTP, where clients show no certificate");
        }
        if let Some(auth) = tls.and_then(|tls| tls.settings.client_auth.as_ref())
            && let Err(wrong) = tls::roots(Some(auth.ca.clone()), self.scene.outside)
        {
            self.wrong(&wrong.reason);
        }
        for files in tls.into_iter().flat_map(|tls| &tls.certificates) {
            match tls::prove(files, self.scene.outside) {
                Err((_, wrong)) => self.wrong(&wrong.reason),
                Ok(certificate) => {
                    if let Some(reason) = tls::untimely(&certificate, SystemTime::now()) {
                        let reason = format!("the certificate `{}` {reason}", files.certificate.display());
                        self.scene.findings.warning(Span::whole(self.file), reason);
                    }
                }
            }
        }
    }

    fn route(&mut self, route: &mut RoutePlan) {
        self.matcher(&route.matcher);
        self.again(route);
        let filters = self.scene.registry.filters;
        for filter in &mut route.filters {
            self.directive(filter, filters, "filter");
        }
        let beside = [route.canary.as_ref().map(|it| &it.pool), route.mirror.as_ref().map(|it| &it.pool)];
        let forwards = route.forward.iter().map(|forward| &forward.pool);
        for pool in forwards.chain(beside.into_iter().flatten()) {
            if !self.pools.contains(pool) {
                self.wrong(&format!("there is no pool `{pool}`"));
            }
        }
        for mistake in canary::mistakes(route) {
            self.wrong(&mistake);
        }
        if route.forward.iter().any(|forward| u64::from(forward.weight) > pool::WEIGHT_MAX) {
            self.wrong(&format!("the weight of a `forward` is more than {}", pool::WEIGHT_MAX));
        }
        let answers = |name: &str| filters.iter().any(|entry| entry.answers && entry.name == name);
        if route.forward.is_empty() && !route.filters.iter().any(|filter| answers(&filter.name)) {
            self.wrong("this route does nothing: it has no `forward`, and no filter in it answers");
        } else if !route.forward.is_empty() && route.forward.iter().all(|forward| forward.weight == 0) {
            self.wrong("every `forward` has weight 0");
        }
    }

    fn matcher(&mut self, matcher: &Matcher) {
        let path = match &matcher.path {
            PathMatch::Any => Ok(()),
            PathMatch::Exact(path) | PathMatch::Prefix(path) => route::normal(path, "").map(drop),
            PathMatch::Pattern(pattern) => values::regex(pattern),
        };
        if let Err(wrong) = path {
            self.wrong(&format!("the path {}", wrong.reason));
        }
        for method in matcher.methods.iter().filter(|method| Method::parse(method.as_bytes()).is_none()) {
            self.wrong(&format!("`{method}` is not a registered method"));
        }
        for header in &matcher.headers {
            if let Err(wrong) = values::asked_field(&header.name) {
                self.wrong(&format!("`{}` {}", header.name, wrong.reason));
            }
        }
        for test in matcher.headers.iter().chain(&matcher.queries).chain(&matcher.cookies) {
            let ValueTest::Pattern(pattern) = &test.value else { continue };
            if let Err(wrong) = values::regex(&format!("^(?:{pattern})$")) {
                self.wrong(&format!("`{pattern}` {}", wrong.reason));
            }
        }
    }

    /// Fills in the arguments of a filter or policy and builds it.
    fn directive<T: ?Sized>(&mut self, directive: &mut Directive, entries: &'static [Entry<T>], what: &str) {
        let Some(entry) = entries.iter().find(|entry| entry.name == directive.name) else {
            let hint = did_you_mean(&directive.name, entries.iter().map(|entry| entry.name));
            let reason = format!("there is no {what} `{}`", directive.name);
            self.scene.findings.error(Span::whole(self.file), reason).maybe_hint(hint);
            return;
        };
        directive.args.words.iter_mut().for_each(|text| self.fill(text));
        directive.args.options.values_mut().for_each(|text| self.fill(text));
        let span = Span::whole(self.file);
        let value = |text: &Text| draft::Value { text: text.clone(), span };
        let options = directive.args.options.iter();
        let draft = Draft {
            name: entry.name.into(),
            span,
            words: directive.args.words.iter().map(value).collect(),
            options: options.map(|(key, text)| (key.as_str().into(), value(text))).collect(),
            block: None,
        };
        if let Some(built) = self.scene.build(entry, &draft) {
            directive.args = built.args;
        }
    }

    fn fill(&mut self, text: &mut Text) {
        if text.value.contains("${") {
            match self.scene.outside.fill(self.file, &text.value) {
                Ok(filled) => *text = filled,
                Err(wrong) => self.wrong(&wrong.reason),
            }
        }
    }
}
