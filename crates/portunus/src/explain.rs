//! explain: which route a request takes, and why; what its filters do, and who may get it.

use crate::args::Question;
use crate::check;
use crate::exit::Exit;
use crate::output::say;
use portunus_config::Loaded;
use portunus_message::{
    FieldName, FieldValue, Fields, Known, Method, Peer, Request, RequestId, Scheme, Tick, duration,
};
use portunus_relay::context::{self, Answer, Bounds, Context};
use portunus_relay::dispatch::{Explanation, Table};
use portunus_relay::filter::forwarded::{self, Told, Trust};
use portunus_relay::filter::{self, Flow, password::verify};
use portunus_relay::plan::{Directive, Listen, Plan, PoolPlan, RouteHedge, RoutePlan, Split, Urgency};
use std::collections::HashSet;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// Prints the decision for the request of `question`.
pub fn explain(config: Option<&Path>, question: &Question) -> Result<(), Exit> {
    let Loaded { plan, redaction, .. } = check::load(config)?;
    let table = Table::compile(&plan)
        .map_err(|mistakes| Exit::from(portunus_control::apply::Trouble::Compile(mistakes)))?;
    let (mut request, way) = request(question)?;
    let (at, listen, scheme) = asked(&plan, &table, &request, way, question)?;
    // As in the proxy: what stands in the forwarding headers is believed of trusted proxies only, and they are there for routes to see.
    request.target.scheme = scheme;
    let (peer, trust) = (peer(question.client), Trust::new(&plan.settings.trusted_proxies));
    let mut id = RequestId::default();
    let client = forwarded::apply(&mut request, &peer, &trust, &mut Told::default(), &mut id);
    let explanation = table.explain(&plan, at, &request, client);
    let mut out =
        format!("{} {}{}", request.method, request.target.authority(), request.target.path_and_query());
    let _ = writeln!(out, " at {listen}\n{}", explanation.to_string().trim_end());
    if let Ok(route) = explanation.route {
        aftermath(&plan, route, &mut request, client, &mut out);
    }
    say(&redaction.of(&out))
}

/// How a URL says that its server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way {
    /// Over TLS or not, where it says that.
    scheme: Option<Scheme>,
    /// At this port, where it says that.
    port: Option<u16>,
}

impl Way {
    fn is_at(self, listen: &Listen, port: u16) -> bool {
        matches!(listen, Listen::Tcp(address) if address.port() == port)
    }

    /// Whether a request comes to `listen` in this way.
    fn leads_to(self, listen: &Listen, scheme: Scheme) -> bool {
        self.scheme.is_none_or(|asked| asked == scheme)
            && self.port.is_none_or(|port| self.is_at(listen, port))
    }
}

fn peer(client: IpAddr) -> Peer {
    Peer::seen(SocketAddr::new(client, 0), SocketAddr::new(client, 0))
}

/// The listener that the URL leads to, with its number and what is spoken there; of several the first that has a site of this very host, or else one for any. Without a port it is the
/// usual one of the scheme, and where nothing listens there, any: there may be a firewall in front that maps it.
fn asked<'a>(
    plan: &Plan,
    table: &'a Table,
    request: &Request,
    way: Way,
    question: &Question,
) -> Result<(usize, &'a Listen, Scheme), Exit> {
    let secure: HashSet<&Listen> =
        plan.sites.iter().filter_map(|site| site.tls.as_ref()).flat_map(|tls| &tls.listen).collect();
    let scheme = |listen: &Listen| if secure.contains(listen) { Scheme::Https } else { Scheme::Http };
    let led = || table.listens().iter().enumerate().filter(|(_, one)| way.leads_to(one, scheme(one)));
    let usual = way.port.unwrap_or(way.scheme.unwrap_or(Scheme::Http).default_port());
    let any = led().any(|(_, listen)| way.is_at(listen, usual));
    let listens = led().filter(|(_, listen)| !any || way.is_at(listen, usual));
    let explained: Vec<_> = listens
        .map(|(at, listen)| ((at, listen, scheme(listen)), table.explain(plan, at, request, question.client)))
        .collect();
    let first = |fits: fn(&Explanation) -> bool| explained.iter().find(|(_, one)| fits(one));
    let found =
        first(|one| one.by_name).or_else(|| first(|one| one.site.is_some())).or_else(|| explained.first());
    let Some((found, _)) = found else {
        let there = table.listens().iter().map(|listen| format!("{} at {listen}", scheme(listen).as_str()));
        let there = match there.collect::<Vec<_>>().join(", ") {
            nothing if nothing.is_empty() => "the configuration listens nowhere".to_owned(),
            there => format!("there is {there}"),
        };
        return Err(Exit::failed(format_args!("nothing listens for `{}`; {there}", question.url)));
    };
    Ok(*found)
}

/// The request, and the way that its URL names.
fn request(question: &Question) -> Result<(Request, Way), Exit> {
    let method = Method::parse(question.method.as_bytes()).ok_or_else(|| no_method(&question.method))?;
    if matches!(method, Method::CONNECT | Method::TRACE) {
        return Err(Exit::failed(format_args!("{method} is answered 405, method-refused, whatever the URL")));
    }
    let mut request = Request { method, ..Request::default() };
    let (scheme, rest) = match question.url.split_once("://") {
        Some(("http", rest)) => (Some(Scheme::Http), rest),
        Some(("https", rest)) => (Some(Scheme::Https), rest),
        Some((other, _)) => {
            return Err(Exit::usage(format_args!("{other}:// is neither http:// nor https://")));
        }
        None => (None, question.url.as_str()),
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if authority.is_empty() {
        let reason = format_args!("`{}` names no host; write `http://example.com/path`", question.url);
        return Err(Exit::usage(reason));
    }
    let wrong =
        |what: &str, name: &str| Exit::usage(format_args!("`{what}` is not {name} that a request may have"));
    let field_wrong =
        |field: &str| Exit::usage(format_args!("`{field}` is not a header field; write `Name: value`"));
    request.target.scheme = scheme.unwrap_or(Scheme::Http);
    request.target.set_authority(authority.as_bytes()).map_err(|_| wrong(authority, "a host"))?;
    request.target.set_path(path.as_bytes()).map_err(|_| wrong(path, "a path"))?;
    let way = Way { scheme, port: request.target.port() };
    for field in &question.headers {
        let (name, value) = field.split_once(':').ok_or_else(|| field_wrong(field))?;
        if name.eq_ignore_ascii_case("host") {
            request
                .target
                .set_authority(value.trim().as_bytes())
                .map_err(|_| wrong(value.trim(), "a host"))?;
            continue;
        }
        let name = FieldName::new(name).ok_or_else(|| field_wrong(field))?;
        let value = FieldValue::new(value.as_bytes()).ok_or_else(|| field_wrong(field))?;
        request.fields.add(&name, value);
    }
    Ok((request, way))
}

/// Methods are told apart by letter case, which whoever types one may not know.
fn no_method(typed: &str) -> Exit {
    let upper = typed.to_ascii_uppercase();
    let hint = match Method::parse(upper.as_bytes()) {
        Some(_) => format!("; did you mean `{upper}`?"),
        None => String::new(),
    };
    Exit::usage(format_args!("`{typed}` is not a registered method{hint}"))
}

/// What happens on the route with this number.
fn aftermath(plan: &Plan, number: u32, request: &mut Request, client: IpAddr, out: &mut String) {
    let routes = plan.sites.iter().flat_map(|site| &site.routes);
    let Some(route) = routes.into_iter().nth(number as usize) else { return };
    if filtered(route, request, client, out) {
        who_gets_it(plan, route, out);
    }
}

/// What the filters do, each with what comes of it; whether the request goes on to a server.
fn filtered(route: &RoutePlan, request: &mut Request, client: IpAddr, out: &mut String) -> bool {
    let mut bounds = Bounds::of(&route.limits);
    let mut later = Fields::new();
    let mut cx = Context {
        peer: peer(client),
        proof: None,
        client_ip: client,
        id: RequestId(0),
        now: Tick(0),
        bounds: &mut bounds,
        upstream: None,
        later: &mut later,
        access_granted: false,
    };
    let mut goes_on = true;
    for directive in &route.filters {
        let entry = filter::LIST.iter().find(|entry| entry.name == directive.name);
        let Some(filter) = entry.and_then(|entry| (entry.build)(&directive.args).ok()) else {
            let _ = writeln!(out, "filter {}", written(directive));
            continue;
        };
        let _ = write!(out, "filter {}", filter.describe());
        if !goes_on {
            out.push_str(": not reached\n");
            continue;
        }
        let target = request.target.path_and_query().to_owned();
        let mut flow = filter.request(request, &mut cx);
        if let Flow::Ask(context::Question::Password { hash, password }) = &flow {
            let answer = if verify(hash, password) { Answer::Yes } else { Answer::No };
            flow = filter.answered(answer, request, &mut cx);
        }
        let now = request.target.path_and_query();
        let _ = match &flow {
            Flow::Next if now != target => writeln!(out, ": goes on as {now}"),
            Flow::Next | Flow::Ask(_) => writeln!(out),
            Flow::Wait(time) => writeln!(out, ": goes on after {}", duration::text(*time)),
            Flow::Answer(response) => {
                let location = response.fields.get(Known::LOCATION).map(String::from_utf8_lossy);
                let location = location.map(|location| format!(", {location}")).unwrap_or_default();
                writeln!(out, ": answers {}{location}", response.status.code())
            }
            Flow::Fail(error) => {
                writeln!(out, ": answers {}, {}", error.crime.status().code(), error.crime.word())
            }
        };
        goes_on = !matches!(flow, Flow::Answer(_) | Flow::Fail(_));
    }
    goes_on
}

/// Who may get the request.
fn who_gets_it(plan: &Plan, route: &RoutePlan, out: &mut String) {
    if let Some(split) = &route.split {
        let _ = match split {
            Split::Cookie { name, .. } => writeln!(out, "split by cookie {name}"),
            Split::Header(name) => writeln!(out, "split by header {name}"),
        };
    }
    if let Some(canary) = &route.canary {
        let (pool, from, to) = (&canary.pool, canary.from, canary.to);
        let _ = writeln!(out, "canary {pool}, {from} to {to} of the requests");
    }
    if let Some(mirror) = &route.mirror {
        let _ = writeln!(out, "mirror {}, {} of the requests", mirror.pool, mirror.share);
    }
    match route.urgency {
        Urgency::High => out.push_str("waits before others where there is no room\n"),
        Urgency::Low => out.push_str("waits after others where there is no room\n"),
        Urgency::Normal => {}
    }
    let total: u64 = route.forward.iter().map(|forward| u64::from(forward.weight)).sum();
    for forward in &route.forward {
        let share = if route.forward.len() == 1 {
            String::new()
        } else {
            format!(", {} of {total} requests", forward.weight)
        };
        let _ = writeln!(out, "pool {}{share}", forward.pool);
        let Some(pool) = plan.pools.iter().find(|pool| pool.name == forward.pool) else { continue };
        let _ = writeln!(out, "  {}", written(&pool.balance));
        again(route, pool, out);
        for server in &pool.servers {
            let backup = if server.backup { " backup" } else { "" };
            let _ = writeln!(out, "  server {} weight={}{backup}", server.address, server.weight);
        }
    }
}

/// How requests are tried again, where the route has a say in that.
fn again(route: &RoutePlan, pool: &PoolPlan, out: &mut String) {
    if !route.retry.is_empty() {
        let retry = route.retry.on(&pool.retry);
        let _ = write!(out, "  tries={}", retry.tries);
        if let Some(time) = retry.per_try {
            let _ = write!(out, " per-try={}", duration::text(time));
        }
        let _ = writeln!(out, " budget={}%", retry.budget_percent);
    }
    match route.hedge {
        Some(RouteHedge::Off) => out.push_str("  no hedge\n"),
        Some(RouteHedge::After(hedge)) => _ = writeln!(out, "  hedge p{}", hedge.percentile),
        None => {}
    }
}

/// As it stands in the configuration.
fn written(directive: &Directive) -> String {
    let mut text = directive.name.clone();
    for word in &directive.args.words {
        let _ = write!(text, " {}", word.shown());
    }
    for (key, value) in &directive.args.options {
        let _ = write!(text, " {key}={}", value.shown());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(method: &str, url: &str, headers: &[&str]) -> Question {
        let headers = headers.iter().map(ToString::to_string).collect();
        Question { method: method.into(), url: url.into(), headers, client: [127, 0, 0, 1].into() }
    }

    #[test]
    fn a_question_becomes_a_request() {
        let headers = ["X-Version: 2", "host: other.example"];
        let (request, way) =
            request(&question("GET", "https://Api.Example.com:8443/a/../b?c", &headers)).unwrap();
        assert_eq!((request.target.authority(), way.port), ("other.example", Some(8443)));
        assert_eq!(way.scheme, Some(Scheme::Https));
        assert_eq!(request.target.path_and_query(), "/b?c");
        assert_eq!(request.fields.len(), 1);
        let bare = super::request(&question("GET", "example.com", &[])).unwrap().1;
        assert_eq!(bare, Way { scheme: None, port: None });
        for (method, url, field) in [
            ("get", "a", "A: b"),
            ("GET", "ftp://a", "A: b"),
            ("GET", "a/\\", "A: b"),
            ("GET", "a", "nothing"),
            ("GET", "/path", "A: b"),
        ] {
            assert!(super::request(&question(method, url, &[field])).is_err(), "{method} {url} {field}");
        }
    }
}
