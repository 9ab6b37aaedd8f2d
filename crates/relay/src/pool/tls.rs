//! tls: hands are shaken with a host.

use crate::net::Stream;
use crate::net::tls::Layer;
use crate::tls::Behind;
use rustls::Error;
use std::future::poll_fn;
use std::io;

/// Why there is no handshake. Nothing of a request has been sent.
#[derive(Debug)]
pub enum NoHandshake {
    /// The host's certificate is not good.
    Certificate(String),
    /// Anything else.
    Other(String),
}

/// Puts TLS over a connection to a host that has proved who it is.
pub async fn secure(socket: Stream, behind: &Behind) -> Result<Stream, NoHandshake> {
    let connection = behind.connection().map_err(|error| NoHandshake::Other(error.to_string()))?;
    let mut layer = Layer::client(socket, connection);
    layer.begin().map_err(|error| why(&error))?;
    poll_fn(|cx| layer.poll_handshake(cx)).await.map_err(|error| why(&error))?;
    Ok(Stream::Tls(Box::new(layer)))
}

fn why(error: &io::Error) -> NoHandshake {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(reason)) => {
            NoHandshake::Certificate(format!("its certificate: {reason}"))
        }
        Some(other) => NoHandshake::Other(other.to_string()),
        None => NoHandshake::Other(error.to_string()),
    }
}

impl std::fmt::Display for NoHandshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NoHandshake::Certificate(reason) | NoHandshake::Other(reason) => f.write_str(reason),
        }
    }
}
