//! tcp: whether a host accepts a connection.

use portunus_relay::hosts::Host;
use portunus_relay::plan::Address;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Either kind of connection.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection to one of the host's addresses.
pub async fn connect(host: &Host) -> Result<Box<dyn Stream>, String> {
    let said = |error: io::Error| error.to_string();
    if let Address::Unix(path) = &host.address {
        return Ok(Box::new(UnixStream::connect(path).await.map_err(said)?));
    }
    let mut reason = "it has no address".to_owned();
    for &address in host.live.addresses.load_full().iter() {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(Box::new(stream)),
            Err(error) => reason = said(error),
        }
    }
    Err(reason)
}
