//! knot: a real name server (package knot) that takes signed changes of its zone (RFC 2136).

use crate::binary::has;
use crate::place::{Place, Port, eventually};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The zone that it has.
pub const ZONE: &str = "b.test";
/// The key that changes are signed with, in base64; [`KEY`] is its name.
pub const SECRET: &str = "c29tZXRoaW5nIHRoYXQgaXMgbm90IGtub3duIHRvIG90aGVycw==";
/// The name of the key.
pub const KEY: &str = "portunus";

/// The name server; it ends when this is dropped.
pub struct Knot {
    _place: Place,
    port: Port,
    running: Child,
}

impl Knot {
    /// Starts it, and waits until it answers.
    pub fn start() -> Knot {
        assert!(has("knotd"), "`cargo xtask test` installs it");
        let (place, port) = (Place::new(), Port::free());
        let folder = place.path().display().to_string();
        place.write(
            "zone",
            "@ 60 SOA ns admin 1 3600 600 86400 60\n@ 60 NS ns\nns 60 A 127.0.0.1\n* 60 A 127.0.0.1\n",
        );
        let config = format!(
            "server:\n  rundir: {folder}\n  listen: 127.0.0.1@{}\ndatabase:\n  storage: {folder}\n\
             key:\n- id: {KEY}\n  algorithm: hmac-sha256\n  secret: {SECRET}\n\
             acl:\n- id: changes\n  key: {KEY}\n  action: update\n\
             zone:\n- domain: {ZONE}\n  file: {folder}/zone\n  acl: changes\n",
            port.address().port()
        );
        let config = place.write("knot.conf", config);
        let mut command = Command::new("knotd");
        command.arg("-c").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let running = command.spawn().expect("to run");
        let knot = Knot { _place: place, port, running };
        eventually("the name server", Duration::from_secs(20), || TcpStream::connect(knot.address()).ok());
        eventually("its zone", Duration::from_secs(20), || (knot.texts(ZONE) == Some(0)).then_some(()));
        knot
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// How many TXT records it says that `name` has; none while it does not answer, or not with authority.
    pub fn texts(&self, name: &str) -> Option<u16> {
        let mut query = vec![0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            query.push(label.len() as u8);
            query.extend(label.bytes());
        }
        query.extend([0, 0, 16, 0, 1]); // TXT, IN
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a deadline");
        socket.send_to(&query, self.address()).ok()?;
        let mut answer = [0; 1500];
        let (length, _) = socket.recv_from(&mut answer).ok()?;
        let is_authority = length > 12 && answer[2] & 0x04 != 0;
        is_authority.then(|| u16::from_be_bytes([answer[6], answer[7]]))
    }
}

impl Drop for Knot {
    fn drop(&mut self) {
        let _ = self.running.kill();
        let _ = self.running.wait();
    }
}
