//! wishes: what an operator changes of pools at run time.

use crate::apply::{Running, Supervisor, Trouble};
use crate::described::{Described, OnlyIf, described};
use crate::kept::{keep, kept_of};
use crate::observe::log;
use portunus_relay::members::{Members, Membership, Wish};
use portunus_relay::plan::{Address, PoolPlan};
use portunus_relay::snapshot::Pool;
use portunus_relay::values::nearest;

/// A change of one host of one pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The pool's name.
    pub pool: String,
    /// The host, as written or as the status names it.
    pub host: String,
    /// What is to become of it.
    pub what: What,
    /// Whether it shall hold after the next start, too.
    pub persist: bool,
    /// Of which state of the host it is made.
    pub only_if: OnlyIf,
}

/// What has become of a change.
#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    /// What holds now, as one line.
    pub said: String,
    /// The host as it is now; none when it is no member any more.
    pub host: Option<Described>,
}

/// What is to become of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// What is named changes.
    Adjust {
        /// This weight; `None` inside goes back to the one written.
        weight: Option<Option<u32>>,
        /// Take nothing new, or serve again.
        drain: Option<bool>,
    },
    /// It becomes a member.
    Add {
        /// Its weight.
        weight: Option<u32>,
        /// Used only when no other is left.
        backup: bool,
    },
    /// It is a member no more.
    Remove,
}

/// Why a change cannot be.
#[derive(Debug)]
pub enum Refused {
    /// There is no such pool or host.
    Unknown {
        /// As one sentence.
        reason: String,
        /// The names that there are, the nearest first.
        known: Vec<String>,
    },
    /// It makes no sense as it is said.
    Wrong(String),
    /// It would leave a state that must not be.
    Conflict(String),
    /// The host is not as it was for whoever wants it; this is its tag now.
    Changed(Option<String>),
    /// It cannot be kept.
    Unkept(String),
    /// It cannot be put into force.
    Trouble(Trouble),
}

impl From<Trouble> for Refused {
    fn from(trouble: Trouble) -> Refused {
        Refused::Trouble(trouble)
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refused::Unknown { reason, known } if known.is_empty() => f.write_str(reason),
            Refused::Unknown { reason, known } => write!(f, "{reason}; there is {}", known.join(", ")),
            Refused::Changed(None) => f.write_str("the host is no member of the pool"),
            Refused::Changed(Some(tag)) => {
                write!(f, "the host is not in the state that was meant: its tag is {tag}")
            }
            Refused::Wrong(reason) | Refused::Conflict(reason) | Refused::Unkept(reason) => {
                f.write_str(reason)
            }
            Refused::Trouble(trouble) => trouble.fmt(f),
        }
    }
}

/// Puts `change` into force, and keeps it when asked; says what holds now. It blocks: call it off the runtime.
pub fn make(supervisor: &Supervisor, change: &Change) -> Result<Made, Refused> {
    let made = supervisor.change_members(|running, members| apply(running, members, change))?;
    log::info(format_args!("asked over the admin API: {}", made.said));
    Ok(made)
}

/// A member of a pool as it can be changed.
pub fn look(running: &Running, pool: &str, host: &str) -> Result<Described, Refused> {
    let (pool, plan) = pool_of(running, pool)?;
    let members = running.snapshot.members();
    let address = known((pool, plan), servers(plan, members), host)?;
    let found = described(plan, members, &address);
    found.ok_or_else(|| no_host(pool, host))
}

/// The pool of this name, with what is written of it.
pub fn pool_of<'a>(running: &'a Running, name: &str) -> Result<(&'a Pool, &'a PoolPlan), Refused> {
    let mut pools = running.snapshot.pools().iter().zip(&running.snapshot.plan().pools);
    pools.find(|(pool, _)| *pool.name == *name).map(|(pool, plan)| (&**pool, plan)).ok_or_else(|| {
        let names = running.snapshot.pools().iter().map(|pool| &*pool.name);
        unknown(format!("there is no pool `{name}`"), name, names.collect())
    })
}

fn apply(running: &Running, members: &mut Members, change: &Change) -> Result<Made, Refused> {
    let (pool, plan) = pool_of(running, &change.pool)?;
    let address = match change.what {
        What::Add { .. } => portunus_config::server(&change.host, plan).map_err(Refused::Wrong)?,
        What::Remove => known((pool, plan), servers(plan, members), &change.host)?,
        What::Adjust { .. } => known((pool, plan), Vec::new(), &change.host)?,
    };
    let before = described(plan, members, &address).map(|host| host.tag);
    if !change.only_if.holds(before.as_deref()) {
        return Err(Refused::Changed(before));
    }
    if matches!(change.what, What::Add { .. }) && pool.hosts.len() >= HOSTS_MAX {
        return Err(Refused::Conflict(format!("pool `{}` has {HOSTS_MAX} hosts already", change.pool)));
    }
    let had_hosts = !members.of(plan).is_empty();
    let wishes = members.wishes.entry(change.pool.clone()).or_default();
    let mut wish = wishes.get(&address).copied().unwrap_or_default();
    wish = wished(wish, change.what, plan.servers.iter().any(|server| server.address == address));
    match wish.is_empty() {
        true => _ = wishes.remove(&address),
        false => _ = wishes.insert(address.clone(), wish),
    }
    if wishes.is_empty() {
        members.wishes.remove(&change.pool);
    }
    // Where no name has an address there is no host to lose, as long as some name is left.
    let is_last = members.of(plan).is_empty() && (had_hosts || members.servers(plan).next().is_none());
    if change.what == What::Remove && is_last {
        let reason = format!("`{address}` is the last host of pool `{}`", change.pool);
        return Err(Refused::Conflict(reason));
    }
    if change.persist {
        let Some(directory) = &running.snapshot.plan().settings.state else {
            let reason = "nothing can be kept: the configuration has no `state DIRECTORY`";
            return Err(Refused::Unkept(reason.into()));
        };
        keep(directory, &change.pool, &address, wish).map_err(|error| {
            Refused::Unkept(format!("cannot keep it in {}: {error}", directory.display()))
        })?;
    }
    let mut said = told(&change.pool, &address, change, wish);
    let directory = running.snapshot.plan().settings.state.as_deref();
    let kept = directory.and_then(|directory| kept_of(directory, &change.pool, &address));
    match (directory, kept) {
        (Some(_), Some(kept)) if kept != wish => {
            said.push_str("; at the next start it is again as it was kept (`--persist` keeps this)");
        }
        (Some(_), None) if !wish.is_empty() => said.push_str("; until the next start (`--persist` keeps it)"),
        (None, _) if !wish.is_empty() => said.push_str("; until the next start"),
        _ => {}
    }
    Ok(Made { said, host: described(plan, members, &address) })
}

/// What an operator wants after a change. Whatever only repeats what was written needs no wish.
fn wished(mut wish: Wish, what: What, is_written: bool) -> Wish {
    match what {
        What::Adjust { weight, drain } => {
            wish.weight = weight.unwrap_or(wish.weight);
            wish.drain = drain.unwrap_or(wish.drain);
        }
        What::Add { weight, backup } => {
            let member = if is_written { None } else { Some(Membership::Added { backup }) };
            wish = Wish { weight, drain: false, member };
        }
        What::Remove => {
            let was_added = matches!(wish.member, Some(Membership::Added { .. })) && !is_written;
            wish = Wish::default();
            wish.member = if was_added { None } else { Some(Membership::Removed) };
        }
    }
    wish
}

fn told(pool: &str, address: &Address, change: &Change, wish: Wish) -> String {
    let mut text = match change.what {
        What::Adjust { .. } => format!("pool {pool}: {address}"),
        What::Add { .. } => format!("pool {pool}: {address} is added"),
        What::Remove => format!("pool {pool}: {address} is removed"),
    };
    if change.what != What::Remove {
        let order = if wish.drain { "drains" } else { "serves" };
        let weight = wish.weight.map_or("the weight written".to_owned(), |weight| format!("weight {weight}"));
        let comma = if matches!(change.what, What::Add { .. }) { "," } else { "" };
        text.push_str(&format!("{comma} {order} with {weight}"));
    }
    if change.persist {
        text.push_str(", kept for the next start");
    }
    text
}

/// Every server that is written, and every one that was added: names, too, whether or not they have an address.
fn servers(plan: &PoolPlan, members: &Members) -> Vec<Address> {
    let written = plan.servers.iter().cloned();
    written.chain(members.servers(plan)).map(|server| server.address).collect()
}

/// The address of a host, or of one of `servers`: as it is named, or as it would be written in the pool.
fn known((pool, plan): (&Pool, &PoolPlan), servers: Vec<Address>, host: &str) -> Result<Address, Refused> {
    let meant = portunus_config::server(host, plan).ok();
    let hosts = pool.hosts.iter().map(|(_, host)| host.address.clone());
    let is_meant = |address: &Address| Some(address) == meant.as_ref() || address.to_string() == host;
    hosts.chain(servers).find(is_meant).ok_or_else(|| no_host(pool, host))
}

fn no_host(pool: &Pool, host: &str) -> Refused {
    let names: Vec<_> = pool.hosts.iter().map(|(_, host)| &*host.name).collect();
    unknown(format!("there is no host `{host}` in pool `{}`", pool.name), host, names)
}

fn unknown(reason: String, asked: &str, names: Vec<&str>) -> Refused {
    let near = nearest(asked, names.iter().copied());
    let others = names.iter().copied().filter(|name| Some(*name) != near);
    let known = near.into_iter().chain(others).take(KNOWN_MAX).map(str::to_owned).collect();
    Refused::Unknown { reason, known }
}

const KNOWN_MAX: usize = 20;
/// Hosts that can be added to a pool at run time, those that it has included.
const HOSTS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_that_only_repeats_what_is_written_is_none() {
        let none = Wish::default();
        let add = What::Add { weight: None, backup: true };
        assert_eq!(wished(none, add, false).member, Some(Membership::Added { backup: true }));
        let removed = wished(none, What::Remove, true);
        assert_eq!(removed.member, Some(Membership::Removed));
        assert!(wished(removed, add, true).is_empty());
        assert!(wished(wished(none, add, false), What::Remove, false).is_empty());
        let drained = wished(none, What::Adjust { weight: Some(Some(7)), drain: Some(true) }, true);
        assert_eq!((drained.weight, drained.drain), (Some(7), true));
        assert!(wished(drained, What::Adjust { weight: Some(None), drain: Some(false) }, true).is_empty());
    }
}
