//! circle: sites that forward to an address at which they listen themselves, so that their requests come back to them.

use portunus_relay::plan::{Address, Listen, PoolPlan, SitePlan};
use std::collections::HashMap;
use std::net::IpAddr;

/// A server that is the site itself, of one of the pools that its routes forward to.
pub fn server_of_itself<'p>(site: &SitePlan, pools: &HashMap<&str, &'p PoolPlan>) -> Option<&'p Address> {
    let used = site.routes.iter().flat_map(|route| &route.forward);
    let servers = used.filter_map(|forward| pools.get(&*forward.pool)).flat_map(|pool| &pool.servers);
    let mut addresses = servers.map(|server| &server.address);
    addresses.find(|server| site.listen.iter().any(|listen| leads_to(server, listen)))
}

/// Whether a connection to `server` comes in at `listen`. Which addresses this machine has is not known, but for its loopback.
fn leads_to(server: &Address, listen: &Listen) -> bool {
    let same = |ip: IpAddr, port: u16, listen: &std::net::SocketAddr| {
        let (ip, own) = (ip.to_canonical(), listen.ip().to_canonical());
        let is_any = own.is_unspecified() && (own.is_ipv6() || ip.is_ipv4());
        port != 0
            && port == listen.port()
            && (ip == own || is_any && (ip.is_loopback() || ip.is_unspecified()))
    };
    match (server, listen) {
        (Address::Socket(server), Listen::Tcp(listen)) => same(server.ip(), server.port(), listen),
        (Address::Name { host, port }, Listen::Tcp(listen)) if host == "localhost" => {
            let ip = listen.ip().to_canonical();
            port == &listen.port() && (ip.is_loopback() || ip.is_unspecified())
        }
        (Address::Unix(server), Listen::Unix(listen)) => server == listen,
        _ => false,
    }
}
