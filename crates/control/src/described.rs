//! described: a member of a pool as it can be changed, with a tag of its state; and what a change may depend on (RFC 9110 §13.1).

use portunus_relay::members::{Members, Membership, Wish};
use portunus_relay::plan::{Address, Plan, PoolPlan};
use serde_json::{Value, json};

/// A member of a pool: what is written and wanted of it, and nothing that moves by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    /// The same as JSON.
    pub page: Value,
    /// Another one for every other state: an entity tag, in its quotes.
    pub tag: String,
}

/// What is written and wanted of `address` in the pool of `plan`; none when it is no member.
pub fn described(plan: &PoolPlan, members: &Members, address: &Address) -> Option<Described> {
    let wish = members.wishes_of(&plan.name).and_then(|wishes| wishes.get(address)).copied();
    let wish = wish.unwrap_or_default();
    let all = members.of(plan);
    // A name is no member, but its addresses are.
    let mut servers = all.iter().chain(plan.servers.iter().filter(|server| server.address.is_name()));
    let known = servers.find(|server| server.address == *address);
    let (weight, backup, zone) = match (known, wish.member) {
        (_, Some(Membership::Removed)) => return None,
        (Some(server), _) => (server.weight, server.backup, server.zone.clone()),
        (None, Some(Membership::Added { backup })) => (1, backup, None),
        (None, None) => return None,
    };
    let page = json!({
        "pool": plan.name,
        "host": address.to_string(),
        "weight": wish.weight.unwrap_or(weight),
        "backup": backup,
        "drain": wish.drain,
        "added": matches!(wish.member, Some(Membership::Added { .. })),
        "zone": zone,
    });
    let tag = tag(page.to_string().as_bytes());
    Some(Described { page, tag })
}

/// What holds by an operator's word, whatever is written, as a line for each host. Words about pools that are not written any more wait until
/// they are.
pub fn by_hand(plan: &Plan, members: &Members) -> Vec<String> {
    let is_there = |name: &str| plan.pools.iter().any(|pool| pool.name == name);
    let wishes = members.wishes.iter().filter(|(pool, _)| is_there(pool));
    let hosts = wishes.flat_map(|(pool, hosts)| hosts.iter().map(move |host| (pool, host)));
    let line = |(pool, (address, wish)): (&String, (&Address, &Wish))| {
        let member = match wish.member {
            Some(Membership::Removed) => return format!("pool {pool}: {address} is removed by hand"),
            Some(Membership::Added { .. }) => Some("added".to_owned()),
            None => None,
        };
        let weight = wish.weight.map(|weight| format!("given weight {weight}"));
        let drain = wish.drain.then(|| "drained".to_owned());
        let all: Vec<String> = [member, weight, drain].into_iter().flatten().collect();
        format!("pool {pool}: {address} is {} by hand", all.join(", "))
    };
    hosts.filter(|(_, (_, wish))| !wish.is_empty()).map(line).collect()
}

/// An entity tag for these bytes.
pub fn tag(bytes: &[u8]) -> String {
    format!("\"{:016x}\"", fnv1a(bytes))
}

/// FNV-1a, 64 bits: the same for the same bytes on every machine and in every release; it guards nothing.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// What has to hold of a host for a change to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnlyIf {
    /// `If-Match`: its tag is one of these, or it is there at all (`*`).
    pub matches: Option<Vec<String>>,
    /// `If-None-Match`: its tag is none of these, or it is not there at all (`*`).
    pub none_matches: Option<Vec<String>>,
}

impl OnlyIf {
    /// Whether it holds of a host with this tag, or of none.
    pub fn holds(&self, tag: Option<&str>) -> bool {
        let is_one = |list: &[String], weak: bool| {
            list.iter().any(|one| match (tag, one.as_str()) {
                (tag, "*") => tag.is_some(),
                (Some(tag), one) => one == tag || (weak && one.strip_prefix("W/") == Some(tag)),
                (None, _) => false,
            })
        };
        // RFC 9110 §8.8.3.2: `If-Match` compares strongly, `If-None-Match` weakly.
        self.matches.as_deref().is_none_or(|list| is_one(list, false))
            && self.none_matches.as_deref().is_none_or(|list| !is_one(list, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portunus_relay::members::Wish;

    fn plan() -> PoolPlan {
        let text = serde_json::json!({
            "name": "p", "balance": { "name": "round-robin" }, "keep-alive": { "idle": 1 }, "connect-timeout": "1s",
            "servers": [
                { "address": { "socket": "10.0.0.1:80" }, "weight": 2, "backup": false },
                { "address": { "name": { "host": "a.test", "port": 80 } }, "weight": 1, "backup": true },
            ],
        });
        serde_json::from_value(text).unwrap()
    }

    fn address(text: &str) -> Address {
        portunus_config::address(text).unwrap()
    }

    #[test]
    fn what_holds_by_hand_is_told_of_pools_that_there_are() {
        let plan = Plan { pools: vec![plan()], ..Plan::default() };
        let mut members = Members::default();
        let wish = Wish { drain: true, ..Wish::default() };
        for pool in ["p", "gone"] {
            members.wishes.entry(pool.into()).or_default().insert(address("10.0.0.1:80"), wish);
        }
        assert_eq!(by_hand(&plan, &members), ["pool p: 10.0.0.1:80 is drained by hand"]);
    }

    #[test]
    fn every_change_gives_another_tag_and_back_gives_the_old_one() {
        let (plan, mut members, one) = (plan(), Members::default(), address("10.0.0.1:80"));
        let first = described(&plan, &members, &one).unwrap();
        assert_eq!((&first.page["weight"], &first.page["drain"]), (&2.into(), &false.into()));
        let mut tags = vec![first.tag.clone()];
        for wish in [
            Wish { weight: Some(5), ..Wish::default() },
            Wish { drain: true, ..Wish::default() },
            Wish { weight: Some(5), drain: true, member: None },
        ] {
            members.wishes.entry("p".into()).or_default().insert(one.clone(), wish);
            tags.push(described(&plan, &members, &one).unwrap().tag);
        }
        let all = tags.len();
        tags.sort();
        tags.dedup();
        assert_eq!(tags.len(), all);
        members.wishes.clear();
        assert_eq!(described(&plan, &members, &one), Some(first));
    }

    #[test]
    fn who_is_no_member_is_not_described() {
        let (plan, mut members) = (plan(), Members::default());
        assert!(described(&plan, &members, &address("10.0.0.2:80")).is_none());
        assert_eq!(described(&plan, &members, &address("a.test:80")).unwrap().page["backup"], true);
        let added = Wish { member: Some(Membership::Added { backup: true }), ..Wish::default() };
        let removed = Wish { member: Some(Membership::Removed), ..Wish::default() };
        let wishes = members.wishes.entry("p".into()).or_default();
        wishes.insert(address("10.0.0.2:80"), added);
        wishes.insert(address("10.0.0.1:80"), removed);
        assert_eq!(described(&plan, &members, &address("10.0.0.2:80")).unwrap().page["added"], true);
        assert!(described(&plan, &members, &address("10.0.0.1:80")).is_none());
    }

    #[test]
    fn conditions_hold_as_http_has_them() {
        let list = |text: &str| Some(text.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let only = |matches: &str| OnlyIf { matches: list(matches), none_matches: None };
        let none = |matches: &str| OnlyIf { matches: None, none_matches: list(matches) };
        let (there, gone) = (Some("\"a\""), None);
        assert!(OnlyIf::default().holds(there) && OnlyIf::default().holds(gone));
        assert!(only("\"b\" \"a\"").holds(there) && only("*").holds(there));
        assert!(!only("\"b\"").holds(there) && !only("W/\"a\"").holds(there));
        assert!(!only("*").holds(gone) && !only("\"a\"").holds(gone));
        assert!(none("*").holds(gone) && none("\"a\"").holds(gone) && none("\"b\"").holds(there));
        assert!(!none("*").holds(there) && !none("\"a\"").holds(there) && !none("W/\"a\"").holds(there));
    }
}
