//! An exchange finds its route.

use crate::plan::{CompileMistake, Listen, Plan};
use portunus_message::{Crime, Request};
use std::fmt;
use std::net::IpAddr;

/// All routes.
pub struct Table {
    listens: Vec<Listen>,
}

/// How a request finds its route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The site.
    pub site: Option<String>,
    /// The host that was looked for.
    pub host: String,
    /// The route.
    pub route: Result<u32, Crime>,
}

impl Table {
    /// Compiles.
    pub fn compile(plan: &Plan) -> Result<Table, Vec<CompileMistake>> {
        let mut listens: Vec<_> = plan.sites.iter().flat_map(|site| site.listen.clone()).collect();
        listens.sort();
        listens.dedup();
        Ok(Table { listens })
    }
    /// Where.
    pub fn listens(&self) -> &[Listen] {
        &self.listens
    }
    /// Explains.
    pub fn explain(&self, _: &Plan, _: usize, request: &Request, _: IpAddr) -> Explanation {
        Explanation { site: None, host: request.target.host().to_owned(), route: Err(Crime::NoSite) }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{self:?}")
    }
}
