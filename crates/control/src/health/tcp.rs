//! tcp: whether a host accepts a connection.

use portunus_relay::hosts::Host;
use portunus_relay::net;
use portunus_relay::plan::{Address, Protocol};
use portunus_relay::pool::{dial, tls};
use std::io;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Either kind of connection.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection to the host, over TLS where requests go over TLS, and whether HTTP/2 is spoken over it.
pub async fn connect(host: &Host) -> Result<(Box<dyn Stream>, bool), String> {
    let said = |error: io::Error| error.to_string();
    let mut stream = match &host.address {
        Address::Unix(path) => net::Stream::Unix(UnixStream::connect(path).await.map_err(said)?),
        Address::Socket(address) => net::Stream::Tcp(TcpStream::connect(address).await.map_err(said)?),
        Address::Name { .. } | Address::Srv(_) => return Err("it has no address".to_owned()),
    };
    dial::introduce_us(&mut stream, host).await.map_err(said)?;
    match &host.tls {
        None => Ok((Box::new(stream), host.protocol == Protocol::Http2)),
        Some(behind) => match tls::secure(stream, behind, false).await {
            Ok((secured, http2)) => Ok((Box::new(secured), http2)),
            Err(why) => Err(why.to_string()),
        },
    }
}
