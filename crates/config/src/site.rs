//! Sites: their names, where they listen, and their routes with what stands around them.

use crate::again::{self, OfRoute};
use crate::args::Scene;
use crate::bounds;
use crate::canary;
use crate::directives::{self, Scope};
use crate::draft::{Draft, Value};
use crate::findings::{Findings, Span};
use crate::outside::Wrong;
use crate::place::{Found, Seen};
use crate::pool::Pools;
use crate::route::{self, Answer, Forwards, Routes};
use crate::settings;
use crate::tls::Tls;
use crate::vain::{self, Allowing};
use crate::values;
use ipnet::IpNet;
use portunus_message::Limits;
use portunus_relay::plan::{
    Acme, Args, Directive, HostPattern, Listen, Matcher, Prefaced, RetryChange, RoutePlan, SitePlan, SiteTls,
    Text, Urgency,
};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What every site begins with.
#[derive(Clone)]
pub struct SiteDefaults {
    filters: Filters,
    limits: Arc<Limits>,
    acme: Acme,
}

/// The filters of a site, as written.
#[derive(Clone, Default)]
struct Filters {
    /// All, for the site's own answer.
    all: Vec<Directive>,
    /// Those that do not answer by themselves: they hold for every route.
    shared: Vec<Directive>,
    /// Whether one of them answers.
    answers: bool,
}

impl SiteDefaults {
    /// Nothing but the limits that hold for all.
    pub fn new(limits: &Arc<Limits>, acme: &Acme) -> SiteDefaults {
        SiteDefaults { filters: Filters::default(), limits: Arc::clone(limits), acme: acme.clone() }
    }

    /// `site { … }` in `defaults`.
    pub fn read(&mut self, block: &[Draft], scene: &mut Scene<'_, '_>) {
        let mut seen = Seen::default();
        for draft in block {
            match scene.find(draft, Scope::DefaultSite, &mut seen) {
                Found::Filter(entry) if entry.answers => {
                    let reason = format!("`{}` cannot stand here: every site would answer alike", entry.name);
                    scene.findings.error(draft.span, reason);
                }
                Found::Filter(entry) => {
                    let filter = scene.build(entry, draft);
                    self.filters.add(filter, false, 0, draft.span, scene.findings);
                }
                Found::Form(_) => {
                    bounds::read(draft, Scope::DefaultSite, Arc::make_mut(&mut self.limits), scene)
                }
                Found::Nothing => {}
            }
        }
    }
}

impl Filters {
    /// Adds one, which was written at `span`; those before the first `outer` come from the defaults.
    fn add(
        &mut self,
        directive: Option<Directive>,
        answers: bool,
        outer: usize,
        span: Span,
        findings: &mut Findings,
    ) {
        let Some(directive) = directive else { return };
        vain::look(&self.all, outer, &directive, span, findings);
        if answers {
            self.answers = true;
        } else {
            self.shared.push(directive.clone());
        }
        self.all.push(directive);
    }
}

/// `site NAME … { … }`.
pub fn read(
    draft: &Draft,
    defaults: &SiteDefaults,
    pools: &mut Pools,
    labels: &mut Labels,
    scene: &mut Scene<'_, '_>,
) -> Read {
    let SiteDefaults { mut filters, mut limits, acme } = defaults.clone();
    let (outer, mut allowing) = (filters.all.len(), Allowing::default());
    let block = draft.block.as_deref().unwrap_or(&[]);
    let mut seen = Seen::default();
    let mut listen = Listens::default();
    let mut forwards = Forwards::default();
    let mut answer = Answer::default();
    let mut again = OfRoute::default();
    let mut routes = Vec::new();
    let mut tls = Tls::default();
    for draft in block {
        match scene.find(draft, Scope::Site, &mut seen) {
            Found::Filter(entry) => {
                answer.is_met_by(entry, draft, scene);
                let filter = scene.build(entry, draft);
                filter.iter().for_each(|filter| allowing.next(&filters.all, filter, draft.span));
                filters.add(filter, entry.answers, outer, draft.span, scene.findings);
            }
            Found::Form(form) => match form.name {
                "listen" => listen.read(draft, scene),
                "tls" => tls.read(draft, scene),
                "client-auth" => tls.client_auth(draft, scene),
                "limits" => bounds::read(draft, Scope::Site, Arc::make_mut(&mut limits), scene),
                "proxy" => forwards.read(draft, pools, scene),
                name if again::is_for_routes(name) => again.read(name, draft, scene),
                name if canary::is_beside(name) => forwards.beside.read(name, draft, pools, scene),
                _ => routes.push(draft),
            },
            Found::Nothing => listen.tried |= &*draft.name == "listen",
        }
    }
    // Routes may keep out whom the site does not.
    if routes.is_empty() {
        allowing.end(scene.findings);
    }
    let Names { all: names, secure: wanting } = names(draft, &mut listen, &mut tls, scene);
    let secure = listen.secure(&tls, scene);
    let tls = tls.finish(&names, &wanting, &acme, secure, listen.list.len(), scene);
    if tls.is_none() {
        listen.doubt_plain(scene);
    }
    let redirect = redirect(&listen, tls.as_ref(), &wanting);
    let mut all = Routes::new(labels.unique(label(&names, &listen.list, tls.as_ref())), routes.len() + 1);
    for draft in routes {
        let outer = route::Outer { filters: &filters.shared, limits: &limits, again: &again };
        let read = route::read(draft, &outer, pools, scene);
        if let Some(read) = read {
            all.add(read, draft.span, scene);
        }
    }
    answer.is_beside(&forwards, scene);
    let does_something = filters.answers || forwards.any;
    let span = forwards.span.unwrap_or(draft.span);
    if does_something {
        let rest = route::Read {
            matcher: Matcher::default(),
            priority: 0,
            filters: filters.all,
            forwarding: forwards.finish(scene),
            again,
            limits,
        };
        all.add(rest, span, scene);
    } else if block.is_empty() && draft.block.is_some() {
        scene.findings.error(draft.span, "this site does nothing").hint("write `proxy 127.0.0.1:3000` in it");
    } else if !block.iter().any(|draft| matches!(&*draft.name, "route" | "proxy"))
        && !scene.findings.any_error()
    {
        scene
            .findings
            .error(draft.span, "this site has neither a `route` nor a `proxy`, and nothing in it answers");
    }
    Read {
        site: SitePlan {
            names,
            listen: listen.list,
            prefaced: listen.prefaced,
            tls,
            routes: all.into_plans(scene),
        },
        redirect,
    }
}

/// What was read of a site.
pub struct Read {
    /// The site.
    pub site: SitePlan,
    /// The names that are led from port 80 to it, unless a site there has them.
    pub redirect: Vec<HostPattern>,
}

/// Names that have their certificates automatically, at the usual port, are led there from the other usual port.
fn redirect(listen: &Listens, tls: Option<&SiteTls>, names: &[HostPattern]) -> Vec<HostPattern> {
    let automatic = tls.is_some_and(|tls| !tls.automatic.is_empty() || tls.on_demand.is_some());
    let usual = values::every_address(443);
    let by_names = !listen.tried && listen.marked.iter().any(|(marked, _)| *marked == usual);
    if automatic && by_names { names.to_vec() } else { Vec::new() }
}

/// What sites are called in the names of their routes, which are labels of metrics and so differ.
#[derive(Default)]
pub struct Labels(HashMap<String, usize>);

impl Labels {
    fn unique(&mut self, label: String) -> String {
        let count = self.0.entry(label.clone()).or_default();
        *count += 1;
        if *count == 1 { label } else { format!("{label}#{count}") }
    }
}

/// What a site's routes are called after: its first name, or where it listens when it is for any host.
fn label(names: &[HostPattern], listen: &[Listen], tls: Option<&SiteTls>) -> String {
    let place = match listen.first() {
        Some(Listen::Tcp(address)) if address.ip().is_unspecified() => format!(":{}", address.port()),
        Some(listen) => listen.to_string(),
        None => String::new(),
    };
    let secured = tls.zip(listen.first()).is_some_and(|(tls, first)| tls.listen.contains(first));
    let usual = if secured { ":443" } else { ":80" };
    match names.first() {
        Some(HostPattern::Any) | None => place,
        Some(name) if place == usual => name.to_string(),
        Some(name) => match listen.first() {
            Some(Listen::Tcp(address)) => format!("{name}:{}", address.port()),
            _ => name.to_string(),
        },
    }
}

/// Where a site listens.
#[derive(Default)]
struct Listens {
    list: Vec<Listen>,
    seen: HashMap<Listen, Span>,
    /// Those that are marked `tls`, or belong to a name that wants it.
    marked: Vec<(Listen, Span)>,
    /// Those of names that want plain HTTP.
    plain: Vec<Listen>,
    /// Those where connections begin with a PROXY header.
    prefaced: Vec<Prefaced>,
    /// Whether one was written that could not be read.
    tried: bool,
}

impl Listens {
    fn read(&mut self, draft: &Draft, scene: &mut Scene<'_, '_>) {
        self.tried = true;
        let Some(word) = draft.words.first() else {
            scene.findings.error(draft.span, "`listen` needs an address").hint("write `listen :8080`");
            return;
        };
        let mark = |name: &str| draft.words.iter().skip(1).find(|more| more.text.value == name);
        let (tls, prefaced) = (mark("tls"), mark("proxy-protocol"));
        let marks = 1 + usize::from(tls.is_some()) + usize::from(prefaced.is_some());
        let known = |more: &&Value| matches!(more.text.value.as_str(), "tls" | "proxy-protocol");
        let more = draft.words.iter().skip(1).find(|more| !known(more)).or(draft.words.get(marks));
        if let Some(more) = more {
            let reason = "`listen` takes one address, and perhaps `tls` and `proxy-protocol`";
            scene.findings.error(more.span, reason);
        }
        let from = self.from(draft, prefaced, scene);
        let Some(listen) = scene.parse(word, values::listen) else { return };
        if let Some(first) = self.seen.insert(listen.clone(), word.span) {
            scene.twice(word.span, &format!("`listen {}`", word.text.value), first);
            return;
        }
        self.marked.extend(tls.map(|mark| (listen.clone(), mark.span)));
        if let Some(mark) = prefaced {
            let tried = draft.options.iter().any(|(key, _)| &**key == "from");
            if !tried && scene.trusts_nobody && matches!(listen, Listen::Tcp(_)) {
                let reason = "it is not known whose PROXY headers are to be believed";
                let hint = "name the proxies in front: `from=10.0.0.0/8`, or `trusted-proxies` at the top";
                scene.findings.error(mark.span, reason).hint(hint);
            }
            self.prefaced.push(Prefaced { listen: listen.clone(), from });
        }
        self.list.push(listen);
    }

    /// Whose PROXY headers are believed, where they are wanted.
    fn from(&self, draft: &Draft, prefaced: Option<&Value>, scene: &mut Scene<'_, '_>) -> Vec<IpNet> {
        let params = directives::find("listen", Scope::Site).map_or(&[][..], |form| form.params);
        let mut from = Vec::new();
        for (key, value) in &draft.options {
            match (&**key, prefaced) {
                ("from", Some(_)) => from = route::list(value, settings::trusted, scene),
                ("from", None) => {
                    let reason = "`from=` says who may send a PROXY header, and none is wanted here";
                    scene.findings.error(value.span, reason).hint("write `proxy-protocol` before it");
                }
                _ => scene.unknown_option(draft, key, value, params),
            }
        }
        from
    }

    fn add(&mut self, listen: Listen) {
        if !self.list.contains(&listen) {
            self.list.push(listen);
        }
    }

    /// Warns of the port of HTTPS where no TLS is spoken.
    fn doubt_plain(&self, scene: &mut Scene<'_, '_>) {
        for (listen, span) in &self.seen {
            if matches!(listen, Listen::Tcp(address) if address.port() == 443) && self.marked.is_empty() {
                let reason = "clients speak TLS at port 443, and this site speaks plain HTTP there";
                let hint = "write `listen :443 tls`, or `tls CERTIFICATE KEY` in the site";
                scene.findings.warning(*span, reason).hint(hint);
            }
        }
    }

    /// Those of them where TLS is spoken: those that say so; if none does, all of a site with a certificate.
    fn secure(&self, tls: &Tls, scene: &mut Scene<'_, '_>) -> Vec<Listen> {
        let Some(span) = tls.span else {
            return Vec::new();
        };
        let mut marked: Vec<Listen> = Vec::new();
        for (listen, _) in &self.marked {
            if !marked.contains(listen) {
                marked.push(listen.clone());
            }
        }
        let mut secure = if marked.is_empty() { self.list.clone() } else { marked };
        secure.retain(|listen| !self.plain.contains(listen));
        if secure.is_empty() && self.marked.is_empty() && !self.list.is_empty() {
            let reason = "this certificate has no use: all names of the site ask for plain HTTP";
            scene
                .findings
                .error(span, reason)
                .hint("write the names without `http://`, or add `listen :443 tls`");
        }
        secure
    }
}

/// What a name of a site means.
struct Name {
    host: HostPattern,
    /// The port it is listened for at, unless the site says where itself.
    port: Option<u16>,
    /// Whether it asks for TLS.
    wants: Wants,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wants {
    /// Plain HTTP.
    Http,
    /// HTTPS.
    Https,
    /// HTTPS, unless a `listen` without a certificate says otherwise.
    HttpsUnless,
    /// What the site has: HTTPS with a certificate, otherwise plain HTTP.
    Either,
}

/// The names of a site.
struct Names {
    all: Vec<HostPattern>,
    /// Those that TLS is spoken for.
    secure: Vec<HostPattern>,
}

/// The names of a site; where they say where to listen, and nothing else does, that is added to `listen`.
fn names(draft: &Draft, listen: &mut Listens, tls: &mut Tls, scene: &mut Scene<'_, '_>) -> Names {
    let explicit = listen.tried;
    let (mut names, mut secure) = (Vec::new(), Vec::new());
    let mut seen: HashMap<(HostPattern, Option<u16>), Span> = HashMap::new();
    let mut hosts: HashSet<HostPattern> = HashSet::new();
    for word in &draft.words {
        let Some(name) = scene.parse(word, name) else { continue };
        match name.wants {
            Wants::Https => tls.imply(word.span),
            Wants::HttpsUnless if !explicit => tls.imply(word.span),
            _ => {}
        }
        match name.port {
            Some(port) if !explicit => {
                let place = values::every_address(port);
                match name.wants {
                    Wants::Https | Wants::HttpsUnless => listen.marked.push((place.clone(), word.span)),
                    Wants::Http => listen.plain.push(place.clone()),
                    Wants::Either if tls.span.is_some() => listen.marked.push((place.clone(), word.span)),
                    Wants::Either => {}
                }
                listen.add(place);
            }
            None if !explicit => {
                let reason = format!("{} does not say where to listen", word.shown());
                scene.findings.error(word.span, reason).hint("write `listen :8080` in the site");
            }
            _ => {}
        }
        // The same host on two ports, as in `http://a http://a:8080`, is one name.
        let place = if explicit { None } else { name.port };
        if let Some(first) = seen.insert((name.host.clone(), place), word.span) {
            scene.twice(word.span, &word.shown(), first);
        }
        if name.wants != Wants::Http && !secure.contains(&name.host) {
            secure.push(name.host.clone());
        }
        if hosts.insert(name.host.clone()) {
            names.push(name.host);
        }
    }
    if let Some((both, span)) = listen.marked.iter().find(|(marked, _)| listen.plain.contains(marked)) {
        scene
            .findings
            .error(*span, format!("the names of this site ask for HTTPS and for plain HTTP at {both}"));
    }
    if let Some((_, mark)) = listen.marked.first() {
        tls.imply(*mark);
    }
    Names { all: names, secure }
}

/// `*`, `example.com`, `*.example.com`, `http://example.com:8080`, `https://example.com`, `:8080`.
fn name(text: &str) -> Result<Name, Wrong> {
    if text.contains(',') {
        return Err(Wrong::new("is not the name of a site")
            .hint("names stand side by side, without commas: `site example.com www.example.com { … }`"));
    }
    if values::port(text, 0).is_ok() {
        return Err(Wrong::new("is not the name of a site").hint(format!("for a port write `:{text}`")));
    }
    let (rest, scheme) = match text.split_once("://") {
        Some(("http", rest)) => (rest, Some(80)),
        Some(("https", rest)) => (rest, Some(443)),
        Some((scheme, _)) => return Err(Wrong::new(format!("has an unknown scheme, `{scheme}`"))),
        None => (text, None),
    };
    if rest.starts_with("unix:") {
        return Err(
            Wrong::new("is not the name of a site").hint(format!("write `site * {{ listen {text}; … }}`"))
        );
    }
    let rest = if scheme.is_some() { rest.strip_suffix('/').unwrap_or(rest) } else { rest };
    if rest.contains(['/', '?']) {
        return Err(Wrong::new("has a path, which the name of a site cannot have")
            .hint("write a `route` in the site"));
    }
    let (host, port) = values::split_port(rest).map_err(|wrong| Wrong { hint: None, ..wrong })?;
    let port = port.map(|port| values::port(port, 0)).transpose()?;
    let host = match host {
        "" if port.is_none() => return Err(Wrong::new("is not the name of a site")),
        "" | "*" => HostPattern::Any,
        _ => match host.strip_prefix("*.") {
            Some(parent) => HostPattern::Under(values::host(parent)?),
            None if host.contains('*') => {
                return Err(Wrong::new("is not the name of a site")
                    .hint("`*` stands for whole labels at the start: `*.example.com`"));
            }
            None => HostPattern::Exact(values::host(host)?),
        },
    };
    let any = host == HostPattern::Any;
    let wants = match scheme {
        Some(80) => Wants::Http,
        Some(_) => Wants::Https,
        None if any => Wants::Either,
        None => Wants::HttpsUnless,
    };
    let usual = match wants {
        Wants::Https | Wants::HttpsUnless => Some(443),
        Wants::Http => Some(80),
        Wants::Either => None,
    };
    Ok(Name { host, port: port.or(usual), wants })
}

/// All sites, and what they share: no two have one name at one address.
#[derive(Default)]
pub struct Sites {
    /// Those found so far.
    pub list: Vec<SitePlan>,
    seen: HashMap<(Listen, HostPattern), Span>,
    /// Whether TLS is spoken at an address, and which site was the first to say so.
    secure: HashMap<Listen, (bool, Span)>,
    /// Whose PROXY headers are wanted there, likewise.
    prefaced: HashMap<Listen, (Option<Prefaced>, Span)>,
    /// For each site, the names that are led to it from port 80.
    redirects: Vec<Vec<HostPattern>>,
}

impl Sites {
    /// Adds a site.
    pub fn add(&mut self, read: Read, draft: &Draft, scene: &mut Scene<'_, '_>) {
        let Read { site: plan, redirect } = read;
        self.redirects.push(redirect);
        let mut told = false;
        for listen in &plan.listen {
            let secure = plan.tls.as_ref().is_some_and(|tls| tls.listen.contains(listen));
            let (first, other) = *self.secure.entry(listen.clone()).or_insert((secure, draft.span));
            if first != secure && !told {
                let words = if secure { ["TLS", "plain HTTP"] } else { ["plain HTTP", "TLS"] };
                let reason =
                    format!("this site speaks {} at {listen}, and another one {}", words[0], words[1]);
                scene.findings.error(draft.span, reason).earlier(other);
                told = true;
            }
            let prefaced = plan.prefaced.iter().find(|one| one.listen == *listen).cloned();
            let (first, other) =
                self.prefaced.entry(listen.clone()).or_insert_with(|| (prefaced.clone(), draft.span));
            if *first != prefaced && !told {
                let reason = match (first, prefaced) {
                    (None, _) => {
                        format!("this site wants the PROXY protocol at {listen}, and another one does not")
                    }
                    (_, None) => format!(
                        "this site does not want the PROXY protocol at {listen}, and another one does"
                    ),
                    _ => format!("two sites believe different senders of PROXY headers at {listen}"),
                };
                let hint = "a connection has its header before it is known which site it is for";
                scene.findings.error(draft.span, reason).earlier(*other).hint(hint);
                told = true;
            }
            for name in &plan.names {
                let first = self.seen.insert((listen.clone(), name.clone()), draft.span);
                if let Some(first) = first.filter(|_| !told) {
                    let span = draft.words.first().map_or(draft.span, |word| word.span);
                    scene.twice(span, &format!("site `{name}` at {listen}"), first);
                    told = true;
                }
            }
        }
        self.list.push(plan);
    }

    /// As written, and behind them those that lead from port 80 to others.
    pub fn into_plans(mut self, labels: &mut Labels, limits: &Arc<Limits>) -> Vec<SitePlan> {
        let place = values::every_address(80);
        if self.secure.get(&place).is_some_and(|(secure, _)| *secure) {
            return self.list;
        }
        // Whoever speaks first there does so for every site.
        let prefaced = self.prefaced.get(&place).and_then(|(prefaced, _)| prefaced.clone());
        for mut names in std::mem::take(&mut self.redirects) {
            names.retain(|name| !self.seen.contains_key(&(place.clone(), name.clone())));
            let Some(first) = names.first() else { continue };
            let words = ["308", "https://${host}${uri}"].map(Text::plain).to_vec();
            let redirect = Directive { name: "redirect".to_owned(), args: Args { words, ..Args::default() } };
            let route = RoutePlan {
                name: labels.unique(format!("http://{first}")),
                matcher: Matcher::default(),
                priority: 0,
                filters: vec![redirect],
                forward: Vec::new(),
                split: None,
                canary: None,
                mirror: None,
                retry: RetryChange::default(),
                hedge: None,
                urgency: Urgency::default(),
                limits: Arc::clone(limits),
            };
            let (listen, routes) = (vec![place.clone()], vec![route]);
            let prefaced = prefaced.iter().cloned().collect();
            self.list.push(SitePlan { names, listen, prefaced, tls: None, routes });
        }
        self.list
    }
}
