//! Snapshot: a Plan compiled to run.

use crate::hosts::Host;
use crate::plan::{CompileMistake, Plan};
use std::sync::Arc;

/// A Plan compiled to run.
pub struct Snapshot {
    plan: Plan,
    hosts: Vec<(String, Arc<Host>)>,
}

impl Snapshot {
    /// Compiles.
    pub fn compile(plan: &Plan, _: Option<&Snapshot>) -> Result<Snapshot, Vec<CompileMistake>> {
        let mut hosts = Vec::new();
        for pool in &plan.pools {
            for server in &pool.servers {
                let host = Host::new(server.address.clone(), server.weight, server.backup, None);
                hosts.push((pool.name.clone(), Arc::new(host)));
            }
        }
        Ok(Snapshot { plan: plan.clone(), hosts })
    }
    /// What it was compiled from.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
    /// All hosts, with the names of their pools.
    pub fn hosts(&self) -> impl Iterator<Item = (&str, &Arc<Host>)> {
        self.hosts.iter().map(|(pool, host)| (pool.as_str(), host))
    }
}
