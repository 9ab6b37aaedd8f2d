//! protocol: which version of HTTP the servers of a pool speak: `protocol`, and `h2c://`.

use crate::args::Scene;
use crate::outside::Wrong;
use crate::tls::Written;
use crate::values::{self, Scheme};
use portunus_relay::plan::{Check, Health, Protocol};

/// The words of `protocol`.
pub const WORDS: &[&str] = &["auto", "http1", "http2"];

/// One of them.
pub fn read(text: &str) -> Result<Protocol, Wrong> {
    match text {
        "http1" => Ok(Protocol::Http1),
        "http2" => Ok(Protocol::Http2),
        _ => values::one_of(text, WORDS).map(|()| Protocol::Auto),
    }
}

/// What a pool speaks for which `protocol` was written, and whose servers are written so.
pub fn finish(protocol: Protocol, servers: &[Written], scene: &mut Scene<'_, '_>) -> Protocol {
    let is_h2c = |scheme: &Option<Scheme>| *scheme == Some(Scheme::H2c);
    let Some((_, _, span)) = servers.iter().find(|(_, scheme, _)| is_h2c(scheme)) else { return protocol };
    if let Some((_, _, other)) = servers.iter().find(|(_, scheme, _)| !is_h2c(scheme)) {
        let reason = "servers of one pool speak HTTP/2 without TLS, or none of them does";
        scene
            .findings
            .error(*other, reason)
            .hint("write `h2c://` before each, or `protocol http2` in the pool");
    }
    if protocol == Protocol::Http1 {
        let reason = "`h2c://` means HTTP/2, and `protocol http1` does not";
        scene.findings.error(*span, reason).hint("write `http://`, or leave `protocol` out");
    }
    Protocol::Http2
}

/// gRPC is spoken over HTTP/2 only: a check that asks so says nothing of servers that requests reach in another way. And connections
/// of HTTP/2 are shared by clients, so that a PROXY header cannot say whose they are.
pub fn contradiction(
    protocol: Protocol,
    secure: bool,
    introduces: bool,
    health: Option<&Health>,
    servers: &[Written],
    scene: &mut Scene<'_, '_>,
) {
    let asks = health.is_some_and(|health| matches!(health.check, Check::Grpc(_)));
    if let Some((_, _, span)) = servers.first().filter(|_| introduces && protocol == Protocol::Http2) {
        let reason =
            "clients share the connections of HTTP/2, so that `proxy-protocol` cannot say whose they are";
        scene.findings.error(*span, reason).hint("write `protocol http1`, or leave `proxy-protocol` out");
    }
    let speaks = protocol == Protocol::Http2 || (protocol == Protocol::Auto && secure && !introduces);
    if let Some((_, _, span)) = servers.first().filter(|_| asks && !speaks) {
        let reason = "`health grpc` speaks HTTP/2, and requests to this server do not";
        scene.findings.error(*span, reason).hint("write `h2c://` before it, or `protocol http2` in the pool");
    }
}
