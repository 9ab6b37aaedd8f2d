//! explain: which route a request takes, and why; what its filters do, and who may get it.

use crate::args::Question;
use crate::check;
use crate::exit::Exit;
use crate::output::say;
use portunus_config::Loaded;
use portunus_message::{FieldName, FieldValue, Method, Request, Scheme, duration};
use portunus_relay::dispatch::{Explanation, Table};
use portunus_relay::filter;
use portunus_relay::plan::{Directive, Listen, Plan, PoolPlan, RouteHedge, RoutePlan, Split, Urgency};
use std::fmt::Write;
use std::path::Path;

/// Prints the decision for the request of `question`.
pub fn explain(config: Option<&Path>, question: &Question) -> Result<(), Exit> {
    let Loaded { plan, redaction, .. } = check::load(config)?;
    let table = Table::compile(&plan)
        .map_err(|mistakes| Exit::from(portunus_control::apply::Trouble::Compile(mistakes)))?;
    let (request, port) = request(question)?;
    let (listen, explanation) = asked(&plan, &table, &request, port, question)?;
    let mut out =
        format!("{} {}{}", request.method, request.target.authority(), request.target.path_and_query());
    let _ = writeln!(out, " at {listen}\n{}", explanation.to_string().trim_end());
    if let Ok(route) = explanation.route {
        aftermath(&plan, route, &mut out);
    }
    say(&redaction.of(&out))
}

/// The listener that the URL's port belongs to; where several share it, the first whose sites know the host.
fn asked<'a>(
    plan: &Plan,
    table: &'a Table,
    request: &Request,
    port: u16,
    question: &Question,
) -> Result<(&'a Listen, Explanation), Exit> {
    let fits = |listen: &Listen| matches!(listen, Listen::Tcp(address) if address.port() == port);
    let any = table.listens().iter().any(fits);
    let listens = table.listens().iter().enumerate().filter(|(_, listen)| !any || fits(listen));
    let mut explained: Vec<_> =
        listens.map(|(at, listen)| (listen, table.explain(plan, at, request, question.client))).collect();
    let found = explained.iter().position(|(_, explanation)| explanation.site.is_some()).unwrap_or(0);
    if explained.is_empty() {
        return Err(Exit::failed("the configuration listens nowhere"));
    }
    Ok(explained.swap_remove(found))
}

/// The request, and the port its URL names.
fn request(question: &Question) -> Result<(Request, u16), Exit> {
    let method = Method::parse(question.method.as_bytes()).ok_or_else(|| no_method(&question.method))?;
    let mut request = Request { method, ..Request::default() };
    let (scheme, rest) = match question.url.split_once("://") {
        Some(("http", rest)) => (Scheme::Http, rest),
        Some(("https", rest)) => (Scheme::Https, rest),
        Some((other, _)) => {
            return Err(Exit::usage(format_args!("{other}:// is neither http:// nor https://")));
        }
        None => (Scheme::Http, question.url.as_str()),
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
    request.target.scheme = scheme;
    request.target.set_authority(authority.as_bytes()).map_err(|_| wrong(authority, "a host"))?;
    request.target.set_path(path.as_bytes()).map_err(|_| wrong(path, "a path"))?;
    let port = request.target.port().unwrap_or(scheme.default_port());
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
    Ok((request, port))
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
fn aftermath(plan: &Plan, number: u32, out: &mut String) {
    let routes = plan.sites.iter().flat_map(|site| &site.routes);
    let Some(route) = routes.into_iter().nth(number as usize) else { return };
    for filter in &route.filters {
        let _ = writeln!(out, "filter {}", described(filter));
    }
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

/// In the filter's own words, where it can be built.
fn described(directive: &Directive) -> String {
    let entry = filter::LIST.iter().find(|entry| entry.name == directive.name);
    let built = entry.and_then(|entry| (entry.build)(&directive.args).ok());
    built.map_or_else(|| written(directive), |filter| filter.describe())
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
        let (request, port) =
            request(&question("GET", "https://Api.Example.com:8443/a/../b?c", &headers)).unwrap();
        assert_eq!((request.target.authority(), port), ("other.example", 8443));
        assert_eq!(request.target.path_and_query(), "/b?c");
        assert_eq!(request.fields.len(), 1);
        assert_eq!(super::request(&question("GET", "example.com", &[])).unwrap().1, 80);
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
