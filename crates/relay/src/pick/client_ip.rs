//! `client-ip`: the same client goes to the same host, as long as it is there.

use super::{Key, Pick, rendezvous};
use crate::entry::Entry;
use crate::hosts::{HostId, HostSet, Hosts};
use std::net::IpAddr;

pub(super) const ENTRY: Entry<dyn Pick> = Entry {
    name: "client-ip",
    manual: "Gives requests of the same client address to the same server; addresses of one IPv6 /64 count as one, since \
             one client has them all. When a server goes, only its clients move.",
    example: "client-ip",
    params: &[],
    answers: false,
    build: |args| {
        crate::args::Reader::new(&[], args)?;
        Ok(Box::new(ClientIp))
    },
};

struct ClientIp;

impl Pick for ClientIp {
    fn pick(&self, hosts: &Hosts, key: &Key<'_>, tried: &HostSet) -> Option<HostId> {
        match key.client_ip.to_canonical() {
            IpAddr::V4(address) => rendezvous::choose(hosts, &address.octets(), key.now, tried),
            IpAddr::V6(address) => {
                let [network @ .., _, _, _, _, _, _, _, _] = address.octets();
                rendezvous::choose(hosts, &network, key.now, tried)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{hosts, key};
    use super::*;

    #[test]
    fn a_network_stays_together() {
        let hosts = hosts(&[1; 20]);
        let pick = |ip: &str| {
            let key = Key { client_ip: ip.parse().unwrap(), ..key() };
            ClientIp.pick(&hosts, &key, &HostSet::default())
        };
        assert_eq!(pick("2001:db8::1"), pick("2001:db8::ffff:1"));
        assert_ne!(pick("2001:db8::1"), pick("2001:db8:0:1::1"));
        assert_eq!(pick("192.0.2.1"), pick("::ffff:192.0.2.1"));
        assert_ne!(pick("192.0.2.1"), pick("192.0.2.3"));
    }
}
