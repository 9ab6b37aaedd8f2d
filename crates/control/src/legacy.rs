//! legacy: what a program finds when it takes another one's place — sockets that listen, what was known of names, what was wanted of hosts.

use portunus_relay::net::Given;
use portunus_relay::snapshot::Snapshot;
use portunus_relay::standing::Order;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// What was there before this program started.
#[derive(Default)]
pub struct Legacy {
    /// Sockets that listen already.
    pub sockets: Given,
    /// The addresses that names were known to have, by what stands in the configuration.
    pub addresses: HashMap<String, Vec<SocketAddr>>,
    /// What an operator wanted of hosts, and the weights set by hand, by pool and name.
    pub orders: HashMap<(String, String), (Order, Option<u32>)>,
}

impl Legacy {
    /// Names that have not been resolved yet begin with what was known of them, and hosts with what was wanted of them.
    pub fn bequeath(&self, snapshot: &Snapshot) {
        for (pool, host) in snapshot.hosts() {
            if let Some(addresses) = self.addresses.get(&*host.name)
                && host.live.addresses.load().is_empty()
            {
                host.live.addresses.store(Arc::new(addresses.clone()));
            }
            if let Some(&(order, weight)) = self.orders.get(&(pool.to_owned(), host.name.to_string())) {
                host.live.standing.set_order(order);
                host.live.standing.set_weight(weight);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;

    #[test]
    fn a_successor_knows_what_was_known_and_wanted() {
        let text = "pool p {\n server a.example:80\n server 10.0.0.1:80\n}\nsite :8080 { proxy p }\n";
        let source = Source::Text { name: "test".into(), text: text.into() };
        let plan = source.load(&|_| None).unwrap().plan;
        let snapshot = Snapshot::compile(&plan, None).unwrap();
        let mut legacy = Legacy::default();
        let address: SocketAddr = "10.9.9.9:80".parse().unwrap();
        legacy.addresses.insert("a.example:80".into(), vec![address]);
        legacy.addresses.insert("10.0.0.1:80".into(), vec![address]);
        legacy.orders.insert(("p".into(), "10.0.0.1:80".into()), (Order::Drain, Some(7)));
        legacy.orders.insert(("q".into(), "a.example:80".into()), (Order::Drain, None));
        legacy.bequeath(&snapshot);
        let seen: Vec<_> = snapshot
            .hosts()
            .map(|(_, host)| (host.live.addresses.load().to_vec(), host.live.standing.order(), host.share()))
            .collect();
        let fixed = "10.0.0.1:80".parse().unwrap();
        assert_eq!(seen, [(vec![address], Order::Serve, 1), (vec![fixed], Order::Drain, 7)]);
    }
}
