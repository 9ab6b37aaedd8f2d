//! `explain`: why a request takes the route it takes, told by trying every route of the site in order of precedence.

use super::Table;
use super::path::{compile_pattern, normal_path, normal_prefix};
use super::rank::Rank;
use super::rule::{Misfit, Rule};
use crate::plan::{HostPattern, Matcher, PathMatch, Plan, RoutePlan};
use portunus_message::{Crime, Request};
use std::fmt;
use std::net::IpAddr;

/// How a request finds its route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The names of the site, when one has the host.
    pub site: Option<String>,
    /// Whether one of them is more than `*`, and has it.
    pub by_name: bool,
    /// The host that was looked for.
    pub host: String,
    /// Every route of the site in order of precedence.
    pub candidates: Vec<Candidate>,
    /// The index of the chosen route, as [`Table::find`] gives it.
    pub route: Result<u32, Crime>,
}

/// One route that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its index.
    pub route: u32,
    /// Its name.
    pub name: String,
    /// Whether it gets the request.
    pub chosen: bool,
    /// Why, or why not, as half a sentence.
    pub reason: String,
}

impl Table {
    /// Tells how a request finds its route. `plan` is the one this table was compiled from. The routes are tried one
    /// by one here, without the tables that [`Table::find`] uses; a test holds the two against each other.
    pub fn explain(&self, plan: &Plan, listen: usize, request: &Request, client_ip: IpAddr) -> Explanation {
        let host = request.target.host().to_owned();
        let at = self.site(listen, &host).map(|at| at as usize);
        let Some((at, site)) = at.and_then(|at| plan.sites.get(at).map(|site| (at, site))) else {
            let (candidates, route) = (Vec::new(), Err(Crime::NoSite));
            return Explanation { site: None, by_name: false, host, candidates, route };
        };
        let before = plan.sites.iter().take(at).map(|site| site.routes.len()).sum::<usize>();
        let first = u32::try_from(before).unwrap_or(u32::MAX);
        let mut ranked: Vec<(Rank, &RoutePlan)> =
            (first..).zip(&site.routes).map(|(at, route)| (Rank::of(route, at), route)).collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        let mut winner = None::<(Rank, &RoutePlan)>;
        let mut candidates = Vec::with_capacity(ranked.len());
        for (rank, route) in ranked {
            let unfit = misfit(&route.matcher, request, client_ip);
            let (chosen, reason) = match (unfit, winner) {
                (Some(reason), _) => (false, reason),
                (None, Some((first, by))) => {
                    (false, format!("fits, but `{}` {}", by.name, first.before(rank)))
                }
                (None, None) => (true, "fits, and no route before it does".to_owned()),
            };
            if chosen {
                winner = Some((rank, route));
            }
            candidates.push(Candidate { route: rank.route(), name: route.name.clone(), chosen, reason });
        }
        let by_name = site.names.iter().any(|name| *name != HostPattern::Any && name.fits(&host));
        let names: Vec<String> = site.names.iter().map(ToString::to_string).collect();
        let route = winner.map(|(rank, _)| rank.route()).ok_or(Crime::NoRoute);
        Explanation { site: Some(names.join(" ")), by_name, host, candidates, route }
    }
}

/// Why a request does not fit, as half a sentence; `None` when it does.
fn misfit(matcher: &Matcher, request: &Request, client_ip: IpAddr) -> Option<String> {
    let path = request.target.compared_path();
    let path = &*path;
    let unfit = match &matcher.path {
        PathMatch::Any => false,
        PathMatch::Exact(wanted) => normal_path(wanted).map_or(true, |wanted| wanted != path),
        PathMatch::Prefix(wanted) => normal_prefix(wanted).map_or(true, |wanted| {
            !path
                .strip_prefix(&wanted)
                .is_some_and(|rest| path.starts_with('/') && (rest.is_empty() || rest.starts_with('/')))
        }),
        PathMatch::Pattern(wanted) => compile_pattern(wanted).map_or(true, |pattern| !pattern.is_match(path)),
    };
    if unfit {
        return Some(match &matcher.path {
            PathMatch::Exact(wanted) => format!("the path `{path}` is not `{wanted}`"),
            PathMatch::Prefix(wanted) => format!("the path `{path}` is not `{wanted}` and not below it"),
            PathMatch::Pattern(wanted) => {
                format!("the pattern `{wanted}` finds nothing in the path `{path}`")
            }
            PathMatch::Any => "the path does not fit".to_owned(),
        });
    }
    let rule = Rule::compile(matcher, 0).ok()?;
    rule.misfit(request, client_ip).map(|misfit| match misfit {
        Misfit::Method => {
            format!("the method {} is not one of {}", request.method, matcher.methods.join(", "))
        }
        Misfit::Header(name) => format!("no header field `{name}` has the value it asks for"),
        Misfit::Query(name) => format!("no query parameter `{name}` has the value it asks for"),
        Misfit::Cookie(name) => format!("no cookie `{name}` has the value it asks for"),
        Misfit::Client => format!("the client {client_ip} is in none of its networks"),
    })
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.site {
            None => return writeln!(f, "no site has the host `{}`: {}", self.host, Crime::NoSite.status()),
            Some(names) => writeln!(f, "site {names} has the host `{}`", self.host)?,
        }
        for candidate in &self.candidates {
            let mark = if candidate.chosen { "→" } else { " " };
            writeln!(f, "{mark} {}: {}", candidate.name, candidate.reason)?;
        }
        if self.route.is_err() {
            writeln!(f, "no route fits: {}", Crime::NoRoute.status())?;
        }
        Ok(())
    }
}
