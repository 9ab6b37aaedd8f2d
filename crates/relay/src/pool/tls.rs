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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Detached;
    use crate::tls::Roots;
    use rustls::client::UnbufferedClientConnection;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ServerConfig, ServerConnection};
    use std::cell::RefCell;
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::rc::Rc;
    use std::sync::Arc;

    /// A client's stream over TLS, and the bytes that a server has sealed for it; they are not on their way yet.
    async fn secured(client: Detached, server: &mut UnixStream) -> (Stream, Vec<u8>) {
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let roots = Roots::read(made.cert.pem().as_bytes()).unwrap().client().unwrap();
        let config = ServerConfig::builder_with_provider(Arc::clone(roots.crypto_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let name = "a.example".try_into().unwrap();
        let connection = UnbufferedClientConnection::new(roots, name).unwrap();
        let mut layer = Layer::client(Stream::attach(client).unwrap(), connection);
        layer.begin().unwrap();
        let mut ours = server.try_clone().unwrap();
        let peer = std::thread::spawn(move || {
            let mut peer = ServerConnection::new(config.into()).unwrap();
            while peer.is_handshaking() {
                peer.complete_io(&mut ours).unwrap();
            }
            peer.writer().write_all(b"an answer").unwrap();
            let mut sealed = Vec::new();
            while peer.wants_write() {
                peer.write_tls(&mut sealed).unwrap();
            }
            sealed
        });
        poll_fn(|cx| layer.poll_handshake(cx)).await.unwrap();
        poll_fn(|cx| layer.poll_flush(cx)).await.unwrap();
        (Stream::Tls(Box::new(layer)), peer.join().unwrap())
    }

    #[tokio::test(flavor = "current_thread")]
    async fn asking_whether_it_has_ended_takes_nothing_from_whoever_reads() {
        let (client, mut server) = UnixStream::pair().unwrap();
        client.set_nonblocking(true).unwrap();
        let (stream, sealed) = secured(Detached::Unix(client), &mut server).await;
        let stream = Rc::new(RefCell::new(stream));
        let local = tokio::task::LocalSet::new();
        let ours = Rc::clone(&stream);
        let reader = local.spawn_local(async move {
            let mut buffer = [0; 64];
            let count = poll_fn(|cx| ours.borrow_mut().poll_read(cx, &mut buffer)).await.unwrap();
            buffer[..count].to_vec()
        });
        local.run_until(tokio::task::yield_now()).await; // it waits
        server.write_all(&sealed).unwrap();
        assert!(!stream.borrow().has_ended());
        assert_eq!(local.run_until(reader).await.unwrap(), b"an answer");
        drop(server);
        assert!(stream.borrow().has_ended());
    }
}
