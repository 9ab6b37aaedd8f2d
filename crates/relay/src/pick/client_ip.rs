//! `client-ip`: the same client goes to the same host, as long as it is there.

use super::keyed::{BOUNDED, Keyed, METHOD};
use super::{Key, Pick};
use crate::entry::{Entry, Param};
use crate::hosts::{HostId, HostSet, Hosts};
use std::net::IpAddr;

pub(super) const ENTRY: Entry<dyn Pick> = Entry {
    name: "client-ip",
    manual: "Gives requests of the same client address to the same server; addresses of one IPv6 /64 count as one, since \
             one client has them all. When a server goes, only its clients move.",
    example: "client-ip",
    params: PARAMS,
    answers: false,
    build: |args| {
        let keyed = Keyed::read(&crate::args::Reader::new(PARAMS, args)?)?;
        Ok(Box::new(ClientIp { keyed }))
    },
};

const PARAMS: &[Param] = &[METHOD, BOUNDED];

struct ClientIp {
    keyed: Keyed,
}

impl Pick for ClientIp {
    fn pick(&self, hosts: &Hosts, key: &Key<'_>, tried: &HostSet) -> Option<HostId> {
        match key.client_ip.to_canonical() {
            IpAddr::V4(address) => self.keyed.choose(hosts, &address.octets(), key.now, tried),
            IpAddr::V6(address) => {
                let [network @ .., _, _, _, _, _, _, _, _] = address.octets();
                self.keyed.choose(hosts, &network, key.now, tried)
            }
        }
    }

    fn prepare(&mut self, hosts: &Hosts) {
        self.keyed.prepare(hosts);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{hosts, key};
    use super::*;

    #[test]
    fn a_network_stays_together() {
        let hosts = hosts(&[1; 20]);
        let policy = (ENTRY.build)(&Default::default()).unwrap();
        let pick = |ip: &str| {
            let key = Key { client_ip: ip.parse().unwrap(), ..key() };
            policy.pick(&hosts, &key, &HostSet::default())
        };
        assert_eq!(pick("2001:db8::1"), pick("2001:db8::ffff:1"));
        assert_ne!(pick("2001:db8::1"), pick("2001:db8:0:1::1"));
        assert_eq!(pick("192.0.2.1"), pick("::ffff:192.0.2.1"));
        assert_ne!(pick("192.0.2.1"), pick("192.0.2.3"));
    }
}
