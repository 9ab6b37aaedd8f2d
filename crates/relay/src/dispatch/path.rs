//! Which rules a path leads to: its own by hash, its prefixes by hash at segment borders, then patterns, then any.

use super::rule::Rule;
use crate::args::REGEX_BYTES_MAX;
use crate::plan::{PathMatch, RoutePlan};
use foldhash::fast::FixedState;
use portunus_message::{Request, Target};
use regex::Regex;
use std::collections::HashMap;
use std::net::IpAddr;

/// The routes of one site. Nearly always there is one tier: routes with a priority of their own make more.
#[derive(Default)]
pub(super) struct PathTable {
    tiers: Vec<(i32, Tier)>,
}

/// The routes of one priority. Rules that share a path stand together in order of precedence.
#[derive(Default)]
struct Tier {
    exact: HashMap<Box<str>, Vec<Rule>, FixedState>,
    prefixes: HashMap<Box<str>, Vec<Rule>, FixedState>,
    /// How many segments the prefixes have, largest first: no other lengths need to be looked up.
    depths: Vec<usize>,
    patterns: Vec<(Regex, Rule)>,
    any: Vec<Rule>,
}

/// Segments that a prefix may have.
const DEPTH_MAX: usize = 64;

impl PathTable {
    /// Adds a route; the caller adds them in order of precedence.
    pub(super) fn add(&mut self, route: &RoutePlan, rule: Rule) -> Result<(), String> {
        if self.tiers.last().is_none_or(|(priority, _)| *priority != route.priority) {
            self.tiers.push((route.priority, Tier::default()));
        }
        match self.tiers.last_mut() {
            Some((_, tier)) => tier.add(&route.matcher.path, rule),
            None => Ok(()),
        }
    }

    /// The route for this request.
    pub(super) fn find(&self, request: &Request, client_ip: IpAddr) -> Option<u32> {
        let path = request.target.compared_path();
        self.tiers.iter().find_map(|(_, tier)| tier.find(&path, request, client_ip))
    }
}

impl Tier {
    fn add(&mut self, path: &PathMatch, rule: Rule) -> Result<(), String> {
        match path {
            PathMatch::Any => self.any.push(rule),
            PathMatch::Exact(path) => {
                self.exact.entry(normal_path(path)?.into()).or_default().push(rule);
            }
            PathMatch::Pattern(pattern) => self.patterns.push((compile_pattern(pattern)?, rule)),
            PathMatch::Prefix(path) => {
                let prefix = normal_prefix(path)?;
                let depth = prefix.matches('/').count();
                if depth > DEPTH_MAX {
                    return Err(format!("a prefix may have at most {DEPTH_MAX} segments"));
                }
                if let Err(place) = self.depths.binary_search_by(|known| depth.cmp(known)) {
                    self.depths.insert(place, depth);
                }
                self.prefixes.entry(prefix.into()).or_default().push(rule);
            }
        }
        Ok(())
    }

    fn find(&self, path: &str, request: &Request, client_ip: IpAddr) -> Option<u32> {
        let first =
            |rules: &Vec<Rule>| rules.iter().find(|rule| rule.fits(request, client_ip)).map(Rule::route);
        if let Some(route) = self.exact.get(path).and_then(first) {
            return Some(route);
        }
        if let Some(&deepest) = self.depths.first() {
            let borders = Borders::of(path, deepest);
            let at =
                |depth: &usize| borders.prefix(path, *depth).and_then(|prefix| self.prefixes.get(prefix));
            if let Some(route) = self.depths.iter().filter_map(at).find_map(first) {
                return Some(route);
            }
        }
        let by_pattern = |(pattern, rule): &(Regex, Rule)| {
            (rule.fits(request, client_ip) && pattern.is_match(path)).then_some(rule.route())
        };
        self.patterns.iter().find_map(by_pattern).or_else(|| first(&self.any))
    }
}

/// Where the segments of a path end: prefixes match whole segments only (attack F4).
struct Borders {
    ends: [u32; DEPTH_MAX + 1],
    depth: usize,
}

impl Borders {
    /// The ends of the first `deepest` segments. A path that does not start with `/` (`*`) has none at all.
    fn of(path: &str, deepest: usize) -> Borders {
        let mut borders = Borders { ends: [0; DEPTH_MAX + 1], depth: 0 };
        let Some(segments) = path.strip_prefix('/') else {
            borders.ends[0] = u32::MAX;
            return borders;
        };
        let slashes = memchr::memchr_iter(b'/', segments.as_bytes());
        let ends = slashes.chain(std::iter::once(segments.len()));
        for (end, place) in ends.zip(borders.ends.iter_mut().skip(1)).take(deepest) {
            // The url-bytes limit keeps paths far below 4 GiB; a longer one would only match no prefix.
            *place = u32::try_from(end + 1).unwrap_or(u32::MAX);
            borders.depth += 1;
        }
        borders
    }

    fn prefix<'a>(&self, path: &'a str, depth: usize) -> Option<&'a str> {
        if depth > self.depth {
            return None;
        }
        path.get(..*self.ends.get(depth)? as usize)
    }
}

/// A path of the plan in the one form that paths are compared in (attack F1).
pub(super) fn normal_path(path: &str) -> Result<String, String> {
    let mut target = Target::new();
    match target.set_path(path.as_bytes()) {
        _ if path.contains('?') => Err(format!("the path `{path}` holds a `?`; use `query.NAME=`")),
        Ok(()) => Ok(target.compared_path().into_owned()),
        Err(_) => Err(format!("`{path}` is not a path")),
    }
}

/// The same for a prefix: without the closing slash, empty for `/`.
pub(super) fn normal_prefix(path: &str) -> Result<String, String> {
    let mut prefix = normal_path(path)?;
    while prefix.ends_with('/') {
        prefix.pop();
    }
    Ok(prefix)
}

pub(super) fn compile_pattern(pattern: &str) -> Result<Regex, String> {
    let built = regex::RegexBuilder::new(pattern).size_limit(REGEX_BYTES_MAX).build();
    built.map_err(|error| format!("`{pattern}` is not a regular expression: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f4_prefixes_end_at_segments() {
        let prefixes = |path: &str| {
            let borders = Borders::of(path, 3);
            (0..=4).filter_map(|depth| borders.prefix(path, depth)).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(prefixes("/"), ["", "/"]);
        assert_eq!(prefixes("/a"), ["", "/a"]);
        assert_eq!(prefixes("/a/"), ["", "/a", "/a/"]);
        assert_eq!(prefixes("/a/b/c/d"), ["", "/a", "/a/b", "/a/b/c"]);
        assert_eq!(prefixes("*"), Vec::<String>::new());
    }

    #[test]
    fn paths_of_the_plan_are_put_into_normal_form() {
        assert_eq!(normal_path("/a/%7euser/../b").as_deref(), Ok("/a/b"));
        assert_eq!(normal_prefix("/a/").as_deref(), Ok("/a"));
        assert_eq!(normal_prefix("/").as_deref(), Ok(""));
        assert_eq!(normal_prefix("").as_deref(), Ok(""));
        for bad in ["a", "/a b", "/a?b", "/..", "/%00"] {
            assert!(normal_path(bad).is_err(), "{bad}");
        }
    }
}
