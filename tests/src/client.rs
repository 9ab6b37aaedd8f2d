//! client: bytes out, answers in.

use crate::message::{Response, response_framing};
use crate::wire::{Channel, Fault, Wire};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A connection to the proxy, or straight to an origin.
pub struct Client {
    wire: Wire,
}

impl Client {
    /// Connects.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Client {
        Client::try_connect(address).unwrap_or_else(|| panic!("no connection to {address}"))
    }

    /// Connects, if somebody is there.
    pub fn try_connect(address: SocketAddr) -> Option<Client> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
        let _ = stream.set_nodelay(true);
        let _ = stream.set_write_timeout(Some(Duration::from_secs(20)));
        Some(Client { wire: Wire::new(stream) })
    }

    /// Connects with a small receive buffer, so that what is not read piles up at the sender.
    #[track_caller]
    pub fn narrow(address: SocketAddr, bytes: usize) -> Client {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)
            .expect("a socket");
        socket.set_recv_buffer_size(bytes).expect("SO_RCVBUF");
        socket.connect(&address.into()).expect("a connection");
        Client { wire: Wire::new(TcpStream::from(socket)) }
    }

    /// Talks over a stream that is there already.
    pub fn over(channel: impl Channel + 'static) -> Client {
        Client { wire: Wire::new(channel) }
    }

    /// The same stream for a client of HTTP/2, which begins now.
    pub fn into_h2(self) -> crate::H2 {
        crate::H2::begin_with(self.wire, &[])
    }

    /// Connects to a unix socket.
    #[track_caller]
    pub fn connect_unix(path: &Path) -> Client {
        let stream = UnixStream::connect(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Client { wire: Wire::new(stream) }
    }

    /// The same with another deadline for each answer.
    pub fn patience(mut self, patience: Duration) -> Client {
        self.wire.patience = patience;
        self
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Client {
        self.wire.send(bytes.as_ref()).expect("to send");
        self
    }

    /// Sends bytes as they are, if the peer takes them.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), Fault> {
        self.wire.send(bytes.as_ref())
    }

    /// The answer to a request that is not HEAD.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        self.response_to("GET")
    }

    /// The answer to a request with `method`.
    #[track_caller]
    pub fn response_to(&mut self, method: &str) -> Response {
        self.wire.response(method).unwrap_or_else(|fault| panic!("no answer to {method}: {fault:?}"))
    }

    /// The answer, or why there is none.
    pub fn try_response(&mut self, method: &str) -> Result<Response, Fault> {
        self.wire.response(method)
    }

    /// The head of the next answer, be it informational; the body is left to the caller.
    #[track_caller]
    pub fn response_head(&mut self) -> Response {
        self.wire.response_head().unwrap_or_else(|fault| panic!("no answer: {fault:?}"))
    }

    /// The body of `response`, whose head was just read.
    pub fn body_of(&mut self, response: &Response) -> Result<Vec<u8>, Fault> {
        let framing = response_framing(response, "GET").map_err(Fault::Malformed)?;
        self.wire.body(framing)
    }

    /// Sends a whole request and reads its answer.
    #[track_caller]
    pub fn exchange(&mut self, bytes: impl AsRef<[u8]>) -> Response {
        let bytes = bytes.as_ref();
        self.send(bytes);
        self.response_to(if bytes.starts_with(b"HEAD ") { "HEAD" } else { "GET" })
    }

    /// A GET of `target` on this connection.
    #[track_caller]
    pub fn get(&mut self, target: &str) -> Response {
        self.exchange(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"))
    }

    /// A POST of `body` to `target` on this connection.
    #[track_caller]
    pub fn post(&mut self, target: &str, body: impl AsRef<[u8]>) -> Response {
        let body = body.as_ref();
        let mut bytes =
            format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len())
                .into_bytes();
        bytes.extend_from_slice(body);
        self.exchange(bytes)
    }

    /// Everything that comes until the proxy closes; `Err` when it does not, or resets.
    pub fn rest(&mut self) -> Result<Vec<u8>, Fault> {
        self.wire.rest()
    }

    /// Fails the test unless the proxy closes now, without another byte.
    #[track_caller]
    pub fn expect_close(&mut self) {
        match self.wire.rest() {
            Ok(rest) => assert!(rest.is_empty(), "unexpected: {:?}", String::from_utf8_lossy(&rest)),
            Err(Fault::Reset) => {}
            Err(fault) => panic!("not closed: {fault:?}"),
        }
    }

    /// Fails the test unless the connection is still good for another request.
    #[track_caller]
    pub fn expect_open(&mut self) {
        let patience = std::mem::replace(&mut self.wire.patience, Duration::from_millis(30));
        assert_eq!(self.wire.some(), Err(Fault::Timeout), "closed, or more than was asked for");
        self.wire.patience = patience;
    }

    /// Exactly `count` bytes.
    #[track_caller]
    pub fn exactly(&mut self, count: usize) -> Vec<u8> {
        self.wire.exactly(count).unwrap_or_else(|fault| panic!("{count} bytes: {fault:?}"))
    }

    /// Exactly `count` bytes, or why they did not come.
    pub fn try_exactly(&mut self, count: usize) -> Result<Vec<u8>, Fault> {
        self.wire.exactly(count)
    }

    /// One chunk's data.
    #[track_caller]
    pub fn chunk(&mut self) -> Vec<u8> {
        self.wire.chunk().unwrap_or_else(|fault| panic!("a chunk: {fault:?}"))
    }

    /// Ends what we send.
    pub fn half_close(&self) {
        self.wire.half_close();
    }

    /// Closes with a reset.
    pub fn reset(self) {
        self.wire.reset();
    }
}
