//! Precedence: which of two routes that both fit goes first, as the Gateway API orders them.

use super::path::normal_prefix;
use crate::plan::{PathMatch, RoutePlan};
use std::cmp::Reverse;

/// A route's place in the order of precedence; the smallest goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    priority: Reverse<i32>,
    kind: PathKind,
    prefix_len: Reverse<usize>,
    any_method: bool,
    headers: Reverse<usize>,
    queries: Reverse<usize>,
    others: Reverse<usize>,
    route: u32,
}

/// The kinds of path, the most exact first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum PathKind {
    Exact,
    Prefix,
    Pattern,
    Any,
}

impl Rank {
    /// The rank of `route`, the one with index `at`.
    pub(super) fn of(route: &RoutePlan, at: u32) -> Rank {
        let matcher = &route.matcher;
        let (kind, prefix_len) = match &matcher.path {
            PathMatch::Exact(_) => (PathKind::Exact, 0),
            PathMatch::Prefix(path) => {
                (PathKind::Prefix, normal_prefix(path).map_or(0, |prefix| prefix.len()))
            }
            PathMatch::Pattern(_) => (PathKind::Pattern, 0),
            PathMatch::Any => (PathKind::Any, 0),
        };
        Rank {
            priority: Reverse(route.priority),
            kind,
            prefix_len: Reverse(prefix_len),
            any_method: matcher.methods.is_empty(),
            headers: Reverse(matcher.headers.len()),
            queries: Reverse(matcher.queries.len()),
            others: Reverse(matcher.cookies.len() + usize::from(!matcher.clients.is_empty())),
            route: at,
        }
    }

    /// The index of the route.
    pub(super) fn route(self) -> u32 {
        self.route
    }

    /// Why `self` goes before `other`, as half a sentence.
    pub(super) fn before(self, other: Rank) -> &'static str {
        if self.priority != other.priority {
            "has a higher priority"
        } else if self.kind != other.kind {
            match self.kind {
                PathKind::Exact => "names the path exactly",
                PathKind::Prefix => "names a prefix of the path",
                PathKind::Pattern | PathKind::Any => "names a pattern for the path",
            }
        } else if self.prefix_len != other.prefix_len {
            "names a longer prefix"
        } else if self.any_method != other.any_method {
            "names the method"
        } else if self.headers != other.headers {
            "names more headers"
        } else if self.queries != other.queries {
            "names more query parameters"
        } else if self.others != other.others {
            "names more cookies or clients"
        } else {
            "is written first"
        }
    }
}
