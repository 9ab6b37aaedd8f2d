//! service: from what a service's targets stand for to the addresses of the service (RFC 2782).

use super::{ADDRESSES_MAX, client::Service};
use portunus_relay::members::Found;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// Where each target of a service was last, by its name and port. Empty before the first look.
pub type Targets = BTreeMap<(String, u16), Vec<IpAddr>>;

/// How many times as much as a weight of 0 one of 1 gets.
const ZERO_PART: u32 = 100;

/// Where a service is, and why that is not all: of a target that has no address now the last ones are kept for as long as it is listed. `known` is
/// what the service had before; on the first look nobody can tell which target of a port was there.
pub fn settle(
    services: &[Service],
    answers: Vec<Result<Vec<IpAddr>, String>>,
    targets: &mut Targets,
    known: &[Found],
) -> (BTreeSet<Found>, Option<String>) {
    let first = services.iter().map(|service| service.priority).min();
    let weigh = weighing(services.iter().map(|service| service.weight));
    let mut found = BTreeMap::new();
    let mut add = |offers: &[(&Service, Vec<IpAddr>)]| {
        let at = |service: &Service, ip: &IpAddr| SocketAddr::new(*ip, service.port);
        // What several have is what the first of them says.
        let mut meant = BTreeMap::new();
        for (service, ips) in offers {
            ips.iter().for_each(|ip| _ = meant.entry(at(service, ip)).or_insert(service));
        }
        // There is only so much room: one of each target, then the others, the best priority first.
        let ones = offers.iter().filter_map(|(service, ips)| Some((service, ips.first()?)));
        let further = offers.chunk_by(|(one, _), (next, _)| one.priority == next.priority).flat_map(|tier| {
            let most = tier.iter().map(|(_, ips)| ips.len()).max().unwrap_or(0);
            let nth = |at| tier.iter().filter_map(move |(service, ips)| Some((service, ips.get(at)?)));
            (1..most).flat_map(nth)
        });
        for address in ones.chain(further).map(|(service, ip)| at(service, ip)) {
            let Some(service) = meant.get(&address).filter(|_| found.len() < ADDRESSES_MAX) else { continue };
            let (weight, backup) = (weigh(service.weight), Some(service.priority) > first);
            found.entry(address).or_insert(Found { address, weight, backup });
        }
    };
    let before = std::mem::take(targets);
    let (mut live, mut orphans, mut lost) = (Vec::new(), Vec::new(), Vec::new());
    for (service, answer) in services.iter().zip(answers) {
        match answer {
            Ok(mut ips) => {
                ips.sort_unstable();
                targets.insert(key(service), ips.clone());
                live.push((service, ips));
            }
            Err(reason) => orphans.push((service, reason)),
        }
    }
    add(&live);
    let mut missing = None;
    orphans.retain(|(service, _)| !targets.contains_key(&key(service)));
    for (service, reason) in orphans {
        let mut kept = last(service, &before, known);
        if before.is_empty() {
            kept.retain(|ip| !is_live(targets, service.port, ip));
        }
        let kept_too = match kept.len() {
            0 => "it has had none".to_owned(),
            count => format!("its last {count} are kept"),
        };
        missing.get_or_insert(format!("{}: {reason}; {kept_too}", service.target));
        targets.insert(key(service), kept.clone());
        lost.push((service, kept));
    }
    add(&lost);
    (found.into_values().collect(), missing)
}

/// Where a target was last. On the first look that may be wherever the service was at its port.
pub fn last(service: &Service, targets: &Targets, known: &[Found]) -> Vec<IpAddr> {
    if !targets.is_empty() {
        return targets.get(&key(service)).cloned().unwrap_or_default();
    }
    let addresses = known.iter().map(|own| own.address);
    addresses.filter(|own| own.port() == service.port).map(|own| own.ip()).collect()
}

fn key(service: &Service) -> (String, u16) {
    (service.target.clone(), service.port)
}

fn is_live(targets: &Targets, port: u16, ip: &IpAddr) -> bool {
    targets.iter().any(|((_, own), ips)| *own == port && ips.contains(ip))
}

/// The weights of a service's targets. One of 0 gets very little beside others (RFC 2782), and all alike where all have none.
fn weighing(weights: impl Iterator<Item = u16> + Clone) -> impl Fn(u16) -> u32 {
    let is_mixed = weights.clone().any(|weight| weight == 0) && weights.clone().any(|weight| weight > 0);
    let unit = if is_mixed { ZERO_PART } else { 1 };
    move |weight| (u32::from(weight) * unit).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(target: &str, weight: u16) -> Service {
        Service { priority: 0, weight, port: 80, target: target.to_owned() }
    }

    fn at(text: &str) -> Result<Vec<IpAddr>, String> {
        text.split_whitespace().map(|ip| ip.parse::<IpAddr>().map_err(|error| error.to_string())).collect()
    }

    fn gone() -> Result<Vec<IpAddr>, String> {
        Err("no such name".to_owned())
    }

    fn ips(found: &BTreeSet<Found>) -> String {
        found.iter().map(|one| one.address.ip().to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn no_weight_is_very_little_beside_others() {
        let of = |weights: &[u16]| -> Vec<u32> {
            let weigh = weighing(weights.iter().copied());
            weights.iter().map(|weight| weigh(*weight)).collect()
        };
        assert_eq!(of(&[0, 3]), [1, 300]);
        assert_eq!(of(&[0, 0]), [1, 1]);
        assert_eq!(of(&[5, 3]), [5, 3]);
    }

    #[test]
    fn a_target_that_is_gone_keeps_its_own_addresses_and_no_others() {
        let (a, b, mut targets) = (service("a", 1), service("b", 1), Targets::new());
        let both = [a.clone(), b.clone()];
        let (found, missing) = settle(&both, vec![at("10.0.0.1"), at("10.0.1.1")], &mut targets, &[]);
        assert_eq!((ips(&found).as_str(), missing), ("10.0.0.1 10.0.1.1", None));
        let mut known: Vec<Found> = found.into_iter().collect();
        for number in 2..100 {
            let own = format!("10.0.0.{number}");
            let (found, missing) = settle(&both, vec![at(&own), gone()], &mut targets, &known);
            assert_eq!(ips(&found), format!("{own} 10.0.1.1"));
            assert_eq!(missing.unwrap(), "b: no such name; its last 1 are kept");
            known = found.into_iter().collect();
        }
        let (found, _) = settle(&[b], vec![gone()], &mut targets, &known);
        assert_eq!(ips(&found), "10.0.1.1", "a is listed no more");
        let (found, _) = settle(&[a], vec![at("10.0.0.7")], &mut targets, &known);
        assert_eq!(ips(&found), "10.0.0.7", "nor is b");
    }

    #[test]
    fn on_the_first_look_what_was_known_of_the_port_may_be_of_the_target_that_is_gone() {
        let (a, b, mut targets) = (service("a", 1), service("b", 1), Targets::new());
        let known =
            |ip: &str| Found { address: SocketAddr::new(ip.parse().unwrap(), 80), weight: 1, backup: false };
        let known = [known("10.0.0.1"), known("10.0.1.1")];
        let both = [a, b];
        let (found, _) = settle(&both, vec![at("10.0.0.1"), gone()], &mut targets, &known);
        assert_eq!(ips(&found), "10.0.0.1 10.0.1.1");
        let (found, missing) = settle(&both, vec![at("10.0.0.2"), gone()], &mut targets, &known);
        assert_eq!(ips(&found), "10.0.0.2 10.0.1.1");
        assert!(missing.unwrap().ends_with("its last 1 are kept"));
    }

    #[test]
    fn a_target_that_is_listed_twice_is_gone_only_when_nobody_knows_it() {
        let (both, mut targets) = ([service("a", 1), service("a", 1)], Targets::new());
        let _ = settle(&both, vec![at("10.0.0.1"), at("10.0.0.1")], &mut targets, &[]);
        let (found, missing) = settle(&both, vec![at("10.0.0.2"), gone()], &mut targets, &[]);
        assert_eq!((ips(&found).as_str(), missing), ("10.0.0.2", None));
    }

    #[test]
    fn each_target_has_an_address_before_one_has_two() {
        let many = (0..ADDRESSES_MAX).map(|number| format!("10.0.0.{number}")).collect::<Vec<_>>().join(" ");
        let both = [service("a", 1), service("b", 1)];
        let (found, _) = settle(&both, vec![at(&many), at("10.1.0.1")], &mut Targets::new(), &[]);
        assert_eq!(found.len(), ADDRESSES_MAX);
        assert!(ips(&found).ends_with(" 10.1.0.1"));
    }

    #[test]
    fn what_two_targets_share_has_the_larger_weight() {
        let three = [service("c", 10), service("b", 10), service("a", 0)];
        let answers = vec![at("10.0.0.1"), at("10.0.0.2"), at("10.0.0.1")];
        let (found, _) = settle(&three, answers, &mut Targets::new(), &[]);
        assert!(found.len() == 2 && found.iter().all(|one| one.weight == 1000), "{found:?}");
        let both = [service("a", 100), service("b", 1)];
        let (found, _) =
            settle(&both, vec![at("10.0.0.1 10.0.0.2"), at("10.0.0.2")], &mut Targets::new(), &[]);
        assert!(found.len() == 2 && found.iter().all(|one| one.weight == 100), "{found:?}");
    }

    #[test]
    fn what_is_spare_takes_nothing_from_what_is_not() {
        let both = [service("all", 10), Service { priority: 1, ..service("spare", 10) }];
        let answers = vec![at("10.0.0.1 10.0.0.2"), at("10.0.0.2")];
        let (found, _) = settle(&both, answers, &mut Targets::new(), &[]);
        assert!(found.len() == 2 && found.iter().all(|one| !one.backup), "{found:?}");
        let sixty = |net: u8| (0..60).map(|host| format!("10.0.{net}.{host}")).collect::<Vec<_>>().join(" ");
        let answers = vec![at(&sixty(0)), at(&sixty(1))];
        let (found, _) = settle(&both, answers, &mut Targets::new(), &[]);
        assert_eq!((found.len(), found.iter().filter(|one| one.backup).count()), (ADDRESSES_MAX, 4));
    }

    #[test]
    fn there_is_room_for_what_is_alive_first() {
        let many = (0..ADDRESSES_MAX).map(|number| format!("10.0.0.{number}")).collect::<Vec<_>>().join(" ");
        let (both, mut targets) = ([service("b", 1), service("a", 1)], Targets::new());
        let _ = settle(&both, vec![at(&many), at("10.1.0.1")], &mut targets, &[]);
        let (found, _) = settle(&both, vec![gone(), at("10.1.0.1 10.1.0.2")], &mut targets, &[]);
        assert_eq!(found.len(), ADDRESSES_MAX);
        assert!(ips(&found).ends_with("10.1.0.1 10.1.0.2"));
    }
}
