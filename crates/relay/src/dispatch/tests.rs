//! Dispatch as a whole: precedence, hosts, and the tables against a linear search.

use super::*;
use crate::plan::{Matcher, PathMatch, ValueMatch, ValueTest};
use portunus_message::{FieldName, FieldValue, Method};
use proptest::prelude::*;

const CLIENT: &str = "192.0.2.1";

fn route(path: PathMatch) -> RoutePlan {
    RoutePlan {
        name: format!("{path:?}"),
        matcher: Matcher { path, ..Matcher::default() },
        priority: 0,
        filters: Vec::new(),
        forward: Vec::new(),
        split: None,
        canary: None,
        mirror: None,
        retry: Default::default(),
        hedge: None,
        urgency: Default::default(),
        limits: Default::default(),
    }
}

fn exact(path: &str) -> RoutePlan {
    route(PathMatch::Exact(path.to_owned()))
}

fn prefix(path: &str) -> RoutePlan {
    route(PathMatch::Prefix(path.to_owned()))
}

fn pattern(path: &str) -> RoutePlan {
    route(PathMatch::Pattern(path.to_owned()))
}

fn listen(port: u16) -> Listen {
    Listen::Tcp(([127, 0, 0, 1], port).into())
}

fn site(names: Vec<HostPattern>, routes: Vec<RoutePlan>) -> SitePlan {
    SitePlan { names, listen: vec![listen(80)], prefaced: Vec::new(), tls: None, routes }
}

fn plan(routes: Vec<RoutePlan>) -> Plan {
    Plan { sites: vec![site(vec![HostPattern::Any], routes)], ..Plan::default() }
}

fn request(host: &str, path: &str) -> Request {
    let mut request = Request::default();
    request.target.set_authority(host.as_bytes()).unwrap();
    request.target.set_path(path.as_bytes()).unwrap();
    request
}

fn find(plan: &Plan, path: &str) -> Result<u32, Crime> {
    let table = Table::compile(plan).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    table.find(0, &request("a", path), CLIENT.parse().unwrap())
}

#[test]
fn exact_goes_before_prefix_before_pattern_before_any() {
    let plan = plan(vec![
        route(PathMatch::Any),
        pattern("^/users/[0-9]+$"),
        prefix("/users"),
        prefix("/users/7/mail"),
        exact("/users/7"),
        exact("/users"),
    ]);
    for (path, at) in [
        ("/users/7", 4),
        ("/users", 5),
        ("/users/", 2),
        ("/users/8", 2),
        ("/users/7/mail", 3),
        ("/users/7/mail/1", 3),
        ("/users/7/mailx", 2),
        ("/usersx", 0),
        ("/x/users/7", 0),
        ("*", 0),
        ("/users/%37", 4),
    ] {
        assert_eq!(find(&plan, path), Ok(at), "{path}");
    }
}

#[test]
fn then_method_headers_queries_and_order() {
    let with = |mut route: RoutePlan, methods: &[&str], headers: usize, queries: usize| {
        let present = |at| ValueMatch { name: format!("x{at}"), value: ValueTest::Present };
        route.matcher.methods = methods.iter().map(|m| (*m).to_owned()).collect();
        route.matcher.headers = (0..headers).map(present).collect();
        route.matcher.queries = (0..queries).map(present).collect();
        route
    };
    let plan = plan(vec![
        prefix("/a"),
        with(prefix("/a"), &[], 0, 1),
        with(prefix("/a"), &[], 1, 0),
        with(prefix("/a"), &["POST"], 0, 0),
        prefix("/a"),
    ]);
    let table = Table::compile(&plan).unwrap();
    let mut request = request("a", "/a?x0=1");
    let ip = CLIENT.parse().unwrap();
    assert_eq!(table.find(0, &request, ip), Ok(1));
    request.fields.add(&FieldName::new("x0").unwrap(), FieldValue::new(b"1").unwrap());
    assert_eq!(table.find(0, &request, ip), Ok(2));
    request.method = Method::POST;
    assert_eq!(table.find(0, &request, ip), Ok(3));
    assert_eq!(find(&plan, "/a"), Ok(0));
    let told = table.explain(&plan, 0, &request, ip);
    assert_eq!(told.route, Ok(3));
    assert_eq!(
        told.to_string().lines().collect::<Vec<_>>(),
        [
            "site * has the host `a`",
            "→ Prefix(\"/a\"): fits, and no route before it does",
            "  Prefix(\"/a\"): fits, but `Prefix(\"/a\")` names the method",
            "  Prefix(\"/a\"): fits, but `Prefix(\"/a\")` names the method",
            "  Prefix(\"/a\"): fits, but `Prefix(\"/a\")` names the method",
            "  Prefix(\"/a\"): fits, but `Prefix(\"/a\")` names the method",
        ]
    );
}

#[test]
fn priority_goes_before_everything_and_a_misfit_falls_through() {
    let mut first = prefix("/");
    first.priority = 5;
    first.matcher.methods = vec!["POST".to_owned()];
    let mut only_post = exact("/a");
    only_post.matcher.methods = vec!["POST".to_owned()];
    let plan = plan(vec![only_post, prefix("/a"), first]);
    assert_eq!(find(&plan, "/a"), Ok(1));
    let mut post = request("a", "/a");
    post.method = Method::POST;
    assert_eq!(Table::compile(&plan).unwrap().find(0, &post, CLIENT.parse().unwrap()), Ok(2));
    assert_eq!(find(&plan, "/b"), Err(Crime::NoRoute));
}

#[test]
fn f5_f12_f13_sites_are_found_by_host_and_listener() {
    let names = |name: &str| vec![HostPattern::Exact(name.to_owned())];
    let mut other = site(vec![HostPattern::Under("Example.com".to_owned())], vec![prefix("/")]);
    other.listen = vec![listen(81), listen(80)];
    let sites = vec![site(names("A.example.COM"), vec![prefix("/x"), prefix("/")]), other];
    let plan = Plan { sites, ..Plan::default() };
    let table = Table::compile(&plan).unwrap();
    assert_eq!(table.listens(), [listen(80), listen(81)]);
    let find = |at, host| table.find(at, &request(host, "/"), CLIENT.parse().unwrap());
    assert_eq!(find(0, "a.EXAMPLE.com.:80"), Ok(1));
    assert_eq!(find(0, "b.example.com"), Ok(2));
    assert_eq!(find(1, "a.example.com"), Ok(2));
    assert_eq!(find(0, "example.com"), Err(Crime::NoSite));
    assert_eq!(find(7, "a.example.com"), Err(Crime::NoSite));
    let told = table.explain(&plan, 0, &request("example.com", "/"), CLIENT.parse().unwrap());
    assert_eq!(told.to_string(), "no site has the host `example.com`: 421\n");
}

#[test]
fn every_mistake_is_named() {
    let mut bad = prefix("/a");
    bad.matcher.methods = vec!["BREW".to_owned()];
    let routes = vec![bad, exact("/a?b"), pattern("("), prefix(&"/a".repeat(65))];
    let any = vec![HostPattern::Any];
    let sites = vec![
        site(any.clone(), routes),
        site(any, Vec::new()),
        site(vec![HostPattern::Exact("a b".to_owned())], Vec::new()),
    ];
    let mistakes = Table::compile(&Plan { sites, ..Plan::default() }).err().unwrap();
    assert_eq!(mistakes.len(), 6, "{mistakes:?}");
}

fn path_match() -> impl Strategy<Value = PathMatch> {
    prop_oneof![
        Just(PathMatch::Any),
        "(/[ab]){1,3}/?".prop_map(PathMatch::Exact),
        "(/[ab]){0,3}/?".prop_map(PathMatch::Prefix),
        prop_oneof![Just("^/a"), Just("b$"), Just("/a/b")].prop_map(|p| PathMatch::Pattern(p.to_owned())),
    ]
}

fn value_matches() -> impl Strategy<Value = Vec<ValueMatch>> {
    let value = prop_oneof![
        Just(ValueTest::Present),
        Just(ValueTest::Exact("1".to_owned())),
        Just(ValueTest::Pattern("[12]".to_owned())),
    ];
    proptest::collection::vec(("[xy]", value).prop_map(|(name, value)| ValueMatch { name, value }), 0..2)
}

fn any_route() -> impl Strategy<Value = RoutePlan> {
    let methods = prop_oneof![Just(vec![]), Just(vec!["GET".to_owned()]), Just(vec!["POST".to_owned()])];
    (path_match(), methods, value_matches(), value_matches(), value_matches(), 0i32..2, any::<bool>())
        .prop_map(|(path, methods, headers, queries, cookies, priority, client)| {
            let clients = if client { vec!["192.0.2.0/24".parse().unwrap()] } else { Vec::new() };
            let mut route = route(path);
            route.priority = priority;
            route.matcher = Matcher { methods, headers, queries, cookies, clients, ..route.matcher };
            route
        })
}

fn host_pattern() -> impl Strategy<Value = HostPattern> {
    prop_oneof![
        Just(HostPattern::Any),
        "[ab](\\.[ab]){0,2}".prop_map(HostPattern::Exact),
        "[ab](\\.[ab]){0,1}".prop_map(HostPattern::Under),
    ]
}

/// The rule of precedence, written down a second time and as simply as can be: try all, keep the best.
fn linear(plan: &Plan, request: &Request, ip: IpAddr) -> Result<u32, Crime> {
    let host = request.target.host();
    let closeness = |pattern: &HostPattern| match pattern {
        HostPattern::Exact(name) => (name == host).then_some(1_000),
        HostPattern::Under(name) => host.ends_with(&format!(".{name}")).then_some(name.len() + 1),
        HostPattern::Any => Some(0),
    };
    let mut sites = Vec::new();
    let mut first = 0;
    for site in &plan.sites {
        sites.extend(site.names.iter().filter_map(closeness).map(|close| (close, first, site)));
        first += site.routes.len();
    }
    let (_, first, site) = sites.into_iter().max_by_key(|(close, ..)| *close).ok_or(Crime::NoSite)?;
    let path = request.target.compared_path();
    let path = &*path;
    let path_score = |wanted: &PathMatch| match wanted {
        PathMatch::Any => Some((0, 0)),
        PathMatch::Pattern(pattern) => regex::Regex::new(pattern).unwrap().is_match(path).then_some((1, 0)),
        PathMatch::Prefix(prefix) => {
            let prefix = prefix.trim_end_matches('/');
            let below = path == prefix || path.starts_with(&format!("{prefix}/"));
            (below && path != "*").then_some((2, prefix.len()))
        }
        PathMatch::Exact(exact) => (exact == path).then_some((3, 0)),
    };
    let fits = |wanted: &ValueMatch, values: &[&str]| {
        values.iter().any(|value| match &wanted.value {
            ValueTest::Present => true,
            ValueTest::Exact(exact) => exact == value,
            ValueTest::Pattern(_) => *value == "1" || *value == "2",
        })
    };
    let mut best = None;
    for (at, route) in site.routes.iter().enumerate() {
        let matcher = &route.matcher;
        let Some(score) = path_score(&matcher.path) else { continue };
        let header = |wanted: &ValueMatch| {
            let name = FieldName::new(&wanted.name).unwrap();
            let values = request.fields.get_all(&name).map(|v| std::str::from_utf8(v).unwrap());
            fits(wanted, &values.collect::<Vec<_>>())
        };
        let query = |wanted: &ValueMatch| {
            fits(wanted, &request.target.query_values(&wanted.name).collect::<Vec<_>>())
        };
        let cookie = |wanted: &ValueMatch| {
            let value = request.cookie(&wanted.name).map(|v| std::str::from_utf8(v).unwrap());
            fits(wanted, &value.into_iter().collect::<Vec<_>>())
        };
        let all = (matcher.methods.is_empty() || matcher.methods.contains(&request.method.to_string()))
            && matcher.headers.iter().all(header)
            && matcher.queries.iter().all(query)
            && matcher.cookies.iter().all(cookie)
            && (matcher.clients.is_empty() || matcher.clients.iter().any(|net| net.contains(&ip)));
        let others = matcher.cookies.len() + usize::from(!matcher.clients.is_empty());
        let rank = (
            route.priority,
            score,
            !matcher.methods.is_empty(),
            matcher.headers.len(),
            matcher.queries.len(),
            others,
            std::cmp::Reverse(at),
        );
        if all && best.as_ref().is_none_or(|(known, _)| rank > *known) {
            best = Some((rank, first + at));
        }
    }
    best.map(|(_, at)| u32::try_from(at).unwrap()).ok_or(Crime::NoRoute)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn the_tables_agree_with_a_linear_search(
        sites in proptest::collection::vec((host_pattern(), proptest::collection::vec(any_route(), 0..8)), 1..4),
        host in "[ab](\\.[ab]){0,3}",
        path in prop_oneof!["(/[ab]){0,4}/?", Just("*".to_owned())],
        query in prop_oneof![Just(""), Just("?x=1"), Just("?x=3&y=2"), Just("?y=1&x")],
        field in proptest::option::of(("[xy]", "[123]")),
        cookie in proptest::option::of(("[xy]", "[123]")),
        post in any::<bool>(),
        near in any::<bool>(),
    ) {
        let sites: Vec<SitePlan> =
            sites.into_iter().map(|(name, routes)| site(vec![name], routes)).collect();
        let plan = Plan { sites, ..Plan::default() };
        let Ok(table) = Table::compile(&plan) else { return Ok(()) }; // two sites of one name
        let path = if path == "*" { path } else { format!("{path}{query}") };
        let mut request = request(&host, &path);
        if let Some((name, value)) = field {
            request.fields.add(&FieldName::new(&name).unwrap(), FieldValue::new(value.as_bytes()).unwrap());
        }
        if let Some((name, value)) = cookie {
            let pair = format!("{name}={value}");
            request.fields.add(portunus_message::Known::COOKIE, FieldValue::new(pair.as_bytes()).unwrap());
        }
        if post {
            request.method = Method::POST;
        }
        let ip: IpAddr = if near { "192.0.2.9" } else { "198.51.100.1" }.parse().unwrap();
        let found = table.find(0, &request, ip);
        prop_assert_eq!(found, linear(&plan, &request, ip));
        prop_assert_eq!(found, table.explain(&plan, 0, &request, ip).route);
    }
}
