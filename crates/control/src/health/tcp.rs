//! tcp: whether a host accepts a connection.

use portunus_relay::hosts::Host;
use portunus_relay::plan::Address;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Either kind of connection.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection to the host.
pub async fn connect(host: &Host) -> Result<Box<dyn Stream>, String> {
    let said = |error: io::Error| error.to_string();
    match &host.address {
        Address::Unix(path) => Ok(Box::new(UnixStream::connect(path).await.map_err(said)?)),
        Address::Socket(address) => Ok(Box::new(TcpStream::connect(address).await.map_err(said)?)),
        Address::Name { .. } | Address::Srv(_) => Err("it has no address".to_owned()),
    }
}
