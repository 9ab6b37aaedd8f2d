//! circle: sites that forward to an address at which they listen themselves, so that their requests come back to them.

use portunus_relay::plan::{Address, Listen, PoolPlan, SitePlan};
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// A server that is the site itself, of one of the pools that its routes forward to.
pub fn server_of_itself<'p>(site: &SitePlan, pools: &HashMap<&str, &'p PoolPlan>) -> Option<&'p Address> {
    let used = site.routes.iter().flat_map(|route| &route.forward);
    let servers = used.filter_map(|forward| pools.get(&*forward.pool)).flat_map(|pool| &pool.servers);
    let mut addresses = servers.map(|server| &server.address);
    addresses.find(|server| site.listen.iter().any(|listen| leads_to(server, listen)))
}

/// Whether a connection to `server` comes in at `listen`. Which addresses this machine has is not known, but for its loopback.
fn leads_to(server: &Address, listen: &Listen) -> bool {
    let comes_in = |address: SocketAddr| {
        let ip = address.ip().to_canonical();
        let is_same = matches!(listen, Listen::Tcp(own) if own.ip().to_canonical() == ip);
        (is_same || ip.is_loopback() || ip.is_unspecified()) && Listen::Tcp(address).overlaps(listen)
    };
    match server {
        Address::Socket(server) => comes_in(*server),
        Address::Name { host, port } if host == "localhost" => {
            comes_in((Ipv4Addr::LOCALHOST, *port).into()) || comes_in((Ipv6Addr::LOCALHOST, *port).into())
        }
        Address::Unix(path) => Listen::Unix(path.clone()).overlaps(listen),
        Address::Name { .. } | Address::Srv(_) => false,
    }
}
