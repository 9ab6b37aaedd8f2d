//! tls: certificates made for one test, and connections over TLS on both sides.

use crate::client::Client;
use crate::place::Place;
use crate::wire::{Channel, Wire};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_RSA_SHA256, SanType, SignatureAlgorithm,
};
use rustls::client::{ClientSessionMemoryCache, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// Somebody who signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// A certificate with its key, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// A new one.
    pub fn new(name: &str) -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        Authority { issuer: Issuer::new(params, key), certificate }
    }

    /// Its own certificate, in PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate for these names and addresses, with an elliptic curve.
    pub fn issue(&self, names: &[&str]) -> Pair {
        self.issue_as(names, "a test", &PKCS_ECDSA_P256_SHA256)
    }

    /// The same with RSA.
    pub fn issue_rsa(&self, names: &[&str]) -> Pair {
        self.issue_as(names, "a test", &PKCS_RSA_SHA256)
    }

    /// A certificate for a client.
    pub fn issue_client(&self, subject: &str, names: &[&str]) -> Pair {
        self.issue_as(names, subject, &PKCS_ECDSA_P256_SHA256)
    }

    fn issue_as(&self, names: &[&str], subject: &str, algorithm: &'static SignatureAlgorithm) -> Pair {
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let (uris, names): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| name.contains("://"));
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).expect("names");
        for uri in uris {
            params.subject_alt_names.push(SanType::URI(uri.try_into().expect("a URI")));
        }
        params.distinguished_name.push(DnType::CommonName, subject);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Pair { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

impl Pair {
    /// A certificate for these names that has signed itself and is marked as an authority's, as most tools make it.
    pub fn of_itself(names: &[&str]) -> Pair {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        Pair { certificate, key: key.serialize_pem() }
    }

    /// Writes it to `NAME.pem` and `NAME.key`.
    pub fn write(&self, place: &Place, name: &str) {
        place.write(&format!("{name}.pem"), &self.certificate);
        place.write(&format!("{name}.key"), &self.key);
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.certificate.as_bytes()).map(|one| one.expect("PEM")).collect()
    }

    fn private(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("PEM")
    }

    /// Whether `shown` is this certificate.
    pub fn is(&self, shown: &[u8]) -> bool {
        self.chain().first().is_some_and(|own| own.as_ref() == shown)
    }
}

/// A client that trusts one authority, and resumes sessions.
#[derive(Clone)]
pub struct Trusting(Arc<ClientConfig>);

/// A client's connection over TLS.
pub struct Secured {
    /// To talk over.
    pub client: Client,
    /// The certificate that was shown, as DER.
    pub shown: Vec<u8>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
    /// What was agreed to be spoken.
    pub protocol: Option<Vec<u8>>,
}

impl Trusting {
    /// One that trusts `authority`.
    pub fn new(authority: &Authority) -> Trusting {
        Trusting::with(authority, None, &["http/1.1"])
    }

    /// One that shows `identity` and offers to speak `protocols`.
    pub fn with(authority: &Authority, identity: Option<&Pair>, protocols: &[&str]) -> Trusting {
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.expect("versions").with_root_certificates(roots(authority));
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(pair) => builder.with_client_auth_cert(pair.chain(), pair.private()).expect("an identity"),
        };
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        config.resumption = Resumption::store(Arc::new(ClientSessionMemoryCache::new(32)));
        Trusting(Arc::new(config))
    }

    /// One that trusts the authority with this certificate, in PEM.
    pub fn believing(certificate: &str) -> Trusting {
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM")).expect("a root");
        let mut config = builder.expect("versions").with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Trusting(Arc::new(config))
    }

    /// Connects and shakes hands; otherwise why not.
    pub fn connect(&self, address: SocketAddr, name: &str) -> Result<Secured, String> {
        let stream = self.shake(address, name)?;
        let shown = stream.conn.peer_certificates().and_then(<[_]>::first);
        let shown = shown.map(|shown| shown.to_vec()).unwrap_or_default();
        let resumed = stream.conn.handshake_kind() == Some(HandshakeKind::Resumed);
        let protocol = stream.conn.alpn_protocol().map(<[u8]>::to_vec);
        Ok(Secured { client: Client::over(stream), shown, resumed, protocol })
    }

    /// Connects, shakes hands, asks for nothing, and waits until tickets have come; says how many.
    pub fn tickets(&self, address: SocketAddr, name: &str) -> Result<u32, String> {
        let mut stream = self.shake(address, name)?;
        while stream.conn.tls13_tickets_received() == 0 {
            let count = stream.conn.read_tls(&mut stream.sock).map_err(|error| error.to_string())?;
            stream.conn.process_new_packets().map_err(|error| error.to_string())?;
            if count == 0 {
                break;
            }
        }
        Ok(stream.conn.tls13_tickets_received())
    }

    /// The first thing that it says when it asks for `name`.
    #[track_caller]
    pub fn hello(&self, name: &str) -> Vec<u8> {
        let mut hello = Vec::new();
        self.ask(name)
            .and_then(|mut asking| asking.write_tls(&mut hello).map_err(|error| error.to_string()))
            .expect("a hello");
        hello
    }

    fn ask(&self, name: &str) -> Result<ClientConnection, String> {
        let name = ServerName::try_from(name.to_owned()).map_err(|error| error.to_string())?;
        ClientConnection::new(Arc::clone(&self.0), name).map_err(|error| error.to_string())
    }

    fn shake(
        &self,
        address: SocketAddr,
        name: &str,
    ) -> Result<StreamOwned<ClientConnection, TcpStream>, String> {
        let connection = self.ask(name)?;
        let socket = TcpStream::connect_timeout(&address, PATIENCE).map_err(|error| error.to_string())?;
        let _ = socket.set_nodelay(true);
        let _ = socket.set_read_timeout(Some(PATIENCE));
        let mut stream = StreamOwned::new(connection, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).map_err(|error| error.to_string())?;
        }
        Ok(stream)
    }

    /// Connects and shakes hands.
    #[track_caller]
    pub fn must_connect(&self, address: SocketAddr, name: &str) -> Secured {
        self.connect(address, name).unwrap_or_else(|error| panic!("no handshake with {name}: {error}"))
    }
}

/// What a server of the tests shakes hands with: its certificate, and the authority of its clients when they have to show one.
pub fn server(pair: &Pair, clients: Option<&Authority>) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let roots = Arc::new(roots(authority));
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
            builder.with_client_cert_verifier(verifier.expect("a verifier"))
        }
    };
    let mut config = builder.with_single_cert(pair.chain(), pair.private()).expect("a certificate that fits");
    config.ticketer = aws_lc_rs::Ticketer::new().expect("tickets");
    Arc::new(config)
}

/// The server's side of a connection, and the name that the client has asked for; none when there is no handshake.
pub fn accept(config: &Arc<ServerConfig>, socket: TcpStream) -> Option<(Wire, Option<String>, bool)> {
    let connection = ServerConnection::new(Arc::clone(config)).ok()?;
    let mut stream = StreamOwned::new(connection, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).ok()?;
    }
    let name = stream.conn.server_name().map(str::to_owned);
    let resumed = stream.conn.handshake_kind() == Some(HandshakeKind::Resumed);
    Some((Wire::new(stream), name, resumed))
}

impl Channel for StreamOwned<ClientConnection, TcpStream> {
    fn set_read_time(&self, time: Duration) {
        let _ = self.sock.set_read_timeout(Some(time));
    }
    fn half_close(&self) {
        let _ = self.sock.shutdown(Shutdown::Write);
    }
    fn set_reset(&self) {
        Channel::set_reset(&self.sock);
    }
}

impl Channel for StreamOwned<ServerConnection, TcpStream> {
    fn set_read_time(&self, time: Duration) {
        let _ = self.sock.set_read_timeout(Some(time));
    }
    fn half_close(&self) {
        let _ = self.sock.shutdown(Shutdown::Write);
    }
    fn set_reset(&self) {
        Channel::set_reset(&self.sock);
    }
}

fn roots(authority: &Authority) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let own = CertificateDer::from_pem_slice(authority.certificate.as_bytes()).expect("PEM");
    roots.add(own).expect("a root");
    roots
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

const PATIENCE: Duration = Duration::from_secs(10);
