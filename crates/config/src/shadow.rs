//! shadow: routes that no request gets to, because another one that goes before them fits all that they fit.

use portunus_relay::dispatch::goes_before;
use portunus_relay::plan::{Matcher, PathMatch, RoutePlan, ValueMatch};
use std::collections::HashMap;

/// How many routes each one is held against, at most; a site with more of that kind is not looked at to the end.
const HELD_AGAINST_MAX: usize = 128;

/// Every route in the shadow of another one, with that one, by their indices.
pub fn shadows(routes: &[RoutePlan]) -> Vec<(usize, usize)> {
    let least = routes.iter().map(|route| route.priority).min().unwrap_or(0);
    let mut alike: HashMap<&PathMatch, Vec<usize>> = HashMap::new();
    let mut broad = Vec::new();
    for (at, route) in routes.iter().enumerate() {
        let path = &route.matcher.path;
        let is_root = matches!(path, PathMatch::Prefix(path) if path.trim_matches('/').is_empty());
        if (is_root || *path == PathMatch::Any || route.priority > least) && broad.len() < HELD_AGAINST_MAX {
            broad.push(at);
        }
        let alike = alike.entry(path).or_default();
        if alike.len() < HELD_AGAINST_MAX {
            alike.push(at);
        }
    }
    let shadow = |(at, route): (usize, &RoutePlan)| {
        let same_path = alike.get(&route.matcher.path).into_iter().flatten();
        let mut others = broad.iter().chain(same_path).filter(|other| **other != at);
        let hides = |other: &&usize| {
            let found = routes.get(**other);
            found.is_some_and(|found| {
                takes(&found.matcher, &route.matcher) && goes_before((found, **other), (route, at))
            })
        };
        let is_level =
            |other: &&usize| routes.get(**other).is_some_and(|found| found.priority == route.priority);
        // One that does it without a priority is named first: it does so when the others are gone, too.
        let by = others.clone().filter(is_level).find(hides).or_else(|| others.find(hides));
        by.map(|by| (at, *by))
    };
    routes.iter().enumerate().filter_map(shadow).collect()
}

/// Whether every request that fits `other` fits `own`, as far as that can be told from how they are written.
fn takes(own: &Matcher, other: &Matcher) -> bool {
    let has_all = |own: &[ValueMatch], other: &[ValueMatch]| own.iter().all(|test| other.contains(test));
    takes_path(&own.path, &other.path)
        && is_part(&other.methods, &own.methods)
        && has_all(&own.headers, &other.headers)
        && has_all(&own.queries, &other.queries)
        && has_all(&own.cookies, &other.cookies)
        && is_part(&other.clients, &own.clients)
}

/// Whether `part` allows nothing that `whole` does not; an empty list allows everything.
fn is_part<T: PartialEq>(part: &[T], whole: &[T]) -> bool {
    whole.is_empty() || !part.is_empty() && part.iter().all(|one| whole.contains(one))
}

fn takes_path(own: &PathMatch, other: &PathMatch) -> bool {
    match (own, other) {
        (PathMatch::Any, _) => true,
        (PathMatch::Prefix(prefix), PathMatch::Exact(path) | PathMatch::Prefix(path)) => {
            let rest = path.strip_prefix(prefix.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        // A pattern may fit what is no path, `*` of OPTIONS, but nobody means that.
        (PathMatch::Prefix(prefix), PathMatch::Pattern(_)) => prefix.trim_matches('/').is_empty(),
        (own, other) => own == other,
    }
}
