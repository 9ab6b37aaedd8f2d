//! Members: who is in the pools beside what the plan says — addresses that names have, and what an operator has changed.

use crate::plan::{Address, PoolPlan, ServerPlan};
use crate::standing::Order;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// Who is in the pools beside what the plan says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// The addresses that names have; the last good ones.
    pub found: BTreeMap<Address, Vec<Found>>,
    /// What an operator has changed, by pool and host.
    pub wishes: BTreeMap<String, BTreeMap<Address, Wish>>,
}

/// One address of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Found {
    /// Where.
    pub address: SocketAddr,
    /// Its share of what the name has, 1 unless the name says more.
    pub weight: u32,
    /// Whether the name says that it is used only when no other is left.
    pub backup: bool,
}

/// What an operator wants of one host, beside the plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Wish {
    /// Another weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// To take nothing new.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub drain: bool,
    /// To be a member, or not to be; none leaves that to the plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member: Option<Membership>,
}

/// Whether a host is a member, whatever the plan says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Membership {
    /// It is.
    Added {
        /// Used only when no other is left.
        backup: bool,
    },
    /// It is not.
    Removed,
}

impl Wish {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Wish::default()
    }

    /// What it makes of a host's order.
    pub fn order(&self) -> Order {
        if self.drain { Order::Drain } else { Order::Serve }
    }
}

impl Members {
    /// The members of a pool: each address of a name is one of its own; each is there once, the first one written counts.
    pub fn of(&self, pool: &PoolPlan) -> Vec<ServerPlan> {
        let mut seen = BTreeSet::new();
        let resolved = self.servers(pool).flat_map(|server| self.resolved(server));
        resolved.filter(|server| self.stays(pool, server) && seen.insert(server.address.clone())).collect()
    }

    /// The servers of a pool, names among them: those that are written and not removed, and those that were added.
    pub fn servers(&self, pool: &PoolPlan) -> impl Iterator<Item = ServerPlan> {
        let wishes = self.wishes_of(&pool.name).into_iter().flatten();
        let added = wishes.filter_map(|(address, wish)| match wish.member {
            Some(Membership::Added { backup }) => {
                let address = address.clone();
                Some(ServerPlan { weight: wish.weight.unwrap_or(1), backup, ..member(address) })
            }
            _ => None,
        });
        pool.servers.iter().cloned().chain(added).filter(|server| self.stays(pool, server))
    }

    fn stays(&self, pool: &PoolPlan, server: &ServerPlan) -> bool {
        let wish = self.wishes_of(&pool.name).and_then(|wishes| wishes.get(&server.address));
        wish.and_then(|wish| wish.member) != Some(Membership::Removed)
    }

    /// What an operator wants of the hosts of a pool.
    pub fn wishes_of(&self, pool: &str) -> Option<&BTreeMap<Address, Wish>> {
        self.wishes.get(pool)
    }

    fn resolved(&self, server: ServerPlan) -> Vec<ServerPlan> {
        if !server.address.is_name() {
            return vec![server];
        }
        let found = self.found.get(&server.address).into_iter().flatten();
        let name = match &server.address {
            Address::Name { host, .. } => Some(host.clone()),
            _ => None,
        };
        let one = |found: &Found| ServerPlan {
            address: Address::Socket(found.address),
            weight: server.weight.saturating_mul(found.weight),
            backup: server.backup || found.backup,
            found_by: name.clone(),
            ..server.clone()
        };
        found.map(one).collect()
    }
}

fn member(address: Address) -> ServerPlan {
    ServerPlan { address, weight: 1, backup: false, zone: None, max_in_flight: None, found_by: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(host: &str) -> Address {
        Address::Name { host: host.into(), port: 80 }
    }

    fn socket(text: &str) -> Address {
        Address::Socket(text.parse().unwrap())
    }

    fn pool(servers: &[Address]) -> PoolPlan {
        let servers: Vec<_> = servers.iter().cloned().map(member).collect();
        let text = serde_json::json!({
            "name": "p", "servers": servers, "balance": { "name": "round-robin" },
            "keep-alive": { "idle": 1 }, "connect-timeout": "1s",
        });
        serde_json::from_value(text).unwrap()
    }

    fn names(members: &Members, pool: &PoolPlan) -> Vec<String> {
        members.of(pool).iter().map(|server| server.address.to_string()).collect()
    }

    #[test]
    fn every_address_of_a_name_is_a_member_and_each_is_there_once() {
        let mut members = Members::default();
        let pool = pool(&[name("a"), socket("10.0.0.9:80"), name("b")]);
        assert_eq!(names(&members, &pool), ["10.0.0.9:80"]);
        let found = |text: &str| Found { address: text.parse().unwrap(), weight: 3, backup: true };
        members.found.insert(name("a"), vec![found("10.0.0.1:80"), found("10.0.0.2:80")]);
        members.found.insert(name("b"), vec![found("10.0.0.2:80"), found("10.0.0.9:80")]);
        assert_eq!(names(&members, &pool), ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.9:80"]);
        let first = members.of(&pool).remove(0);
        assert_eq!((first.weight, first.backup), (3, true));
    }

    #[test]
    fn an_operator_adds_and_removes() {
        let mut members = Members::default();
        let pool = pool(&[socket("10.0.0.1:80"), name("a")]);
        let found = |text: &str| Found { address: text.parse().unwrap(), weight: 1, backup: false };
        members.found.insert(name("a"), vec![found("10.0.0.2:80"), found("10.0.0.3:80")]);
        let mut wish = |address: &str, member| {
            let wish = Wish { member: Some(member), ..Wish::default() };
            members.wishes.entry("p".into()).or_default().insert(socket(address), wish);
        };
        wish("10.0.0.1:80", Membership::Removed);
        wish("10.0.0.3:80", Membership::Removed);
        wish("10.0.0.4:80", Membership::Added { backup: true });
        assert_eq!(names(&members, &pool), ["10.0.0.2:80", "10.0.0.4:80"]);
    }
}
