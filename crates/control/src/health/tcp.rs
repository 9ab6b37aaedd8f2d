//! tcp: whether a host accepts a connection.

use portunus_relay::hosts::Host;
use portunus_relay::net::{self, Want};
use portunus_relay::plan::{Address, Protocol};
use portunus_relay::pool::{dial, tls};
use std::io;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Either kind of connection.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Why a look at a host has not found it well.
#[derive(Debug, PartialEq, Eq)]
pub enum Miss {
    /// It was not looked at, for want of a descriptor, a port or memory here: that says nothing about it.
    NoLook,
    /// This is wrong with it.
    Bad(String),
}

impl From<String> for Miss {
    fn from(reason: String) -> Miss {
        Miss::Bad(reason)
    }
}

impl From<io::Error> for Miss {
    fn from(error: io::Error) -> Miss {
        if Want::of(&error).is_some() { Miss::NoLook } else { Miss::Bad(error.to_string()) }
    }
}

/// A connection to the host, over TLS where requests go over TLS, and whether HTTP/2 is spoken over it.
pub async fn connect(host: &Host) -> Result<(Box<dyn Stream>, bool), Miss> {
    let mut stream = match &host.address {
        Address::Unix(path) => net::connect_unix(path).await?,
        Address::Socket(address) => net::Stream::Tcp(TcpStream::connect(address).await?),
        Address::Name { .. } | Address::Srv(_) => return Err(Miss::Bad("it has no address".to_owned())),
    };
    dial::introduce_us(&mut stream, host).await?;
    match &host.tls {
        None => Ok((Box::new(stream), host.protocol == Protocol::Http2)),
        Some(behind) => match tls::secure(stream, behind, false).await {
            Ok((secured, http2)) => Ok((Box::new(secured), http2)),
            Err(why) => Err(Miss::Bad(why.to_string())),
        },
    }
}
