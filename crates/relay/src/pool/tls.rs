//! tls: hands are shaken with a host.

use crate::net::Stream;
use crate::net::tls::Layer;
use crate::tls::{Behind, HTTP2};
use rustls::{CertificateError, Error, InvalidMessage};
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

/// Puts TLS over a connection to a host that has proved who it is, and says whether HTTP/2 is spoken over it; `http1`: nothing but
/// HTTP/1.1 is offered.
pub async fn secure(socket: Stream, behind: &Behind, http1: bool) -> Result<(Stream, bool), NoHandshake> {
    let connection = behind.connection(http1).map_err(|error| NoHandshake::Other(error.to_string()))?;
    let mut layer = Layer::client(socket, connection);
    layer.begin().map_err(|error| why(&error))?;
    poll_fn(|cx| layer.poll_handshake(cx)).await.map_err(|error| why(&error))?;
    let http2 = layer.agreed().alpn_protocol() == Some(HTTP2);
    Ok((Stream::Tls(Box::new(layer)), http2))
}

fn why(error: &io::Error) -> NoHandshake {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(reason)) => {
            NoHandshake::Certificate(format!("its certificate: {}", said(reason)))
        }
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            NoHandshake::Other("what it says is not TLS".into())
        }
        Some(other) => NoHandshake::Other(other.to_string()),
        None => NoHandshake::Other(error.to_string()),
    }
}

/// The library's own words are its names where most go wrong.
fn said(reason: &CertificateError) -> String {
    match reason {
        CertificateError::UnknownIssuer => "no authority that is trusted has signed it".into(),
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "it is an authority's own, and not itself trusted".into()
        }
        // With the time of day it would be another reason each second.
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".into(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet".into()
        }
        CertificateError::BadSignature => "its signature is wrong".into(),
        reason => reason.to_string(),
    }
}

impl std::fmt::Display for NoHandshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NoHandshake::Certificate(reason) | NoHandshake::Other(reason) => f.write_str(reason),
        }
    }
}
