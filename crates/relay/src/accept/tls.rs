//! tls: hands are shaken with a client, within their time; what comes out is a connection like any other.

use crate::challenges::Challenges;
use crate::client::Quiet;
use crate::deadlines::Deadline;
use crate::decode;
use crate::net::Stream;
use crate::net::tls::{Layer, version_name};
use crate::plan::Listen;
use crate::stats::{Handshake, Unshaken};
use crate::tally;
use crate::tls::{Front, Secured, identity};
use crate::worker::{Seat, Worker};
use portunus_message::{Peer, Proof, Target, Tick};
use portunus_wire::hello::{self, Hello, NoHello};
use rustls::server::UnbufferedServerConnection;
use rustls::{AlertDescription, Error};
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

/// How often a handshake under way looks whether its time has become shorter.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Shakes hands, and serves the connection when that has worked out.
pub async fn greet(arrived: Quiet, worker: Rc<Worker>, seat: Seat) {
    let open = &worker.cells.handshakes_open;
    open.add(1);
    let (peer, began) = (arrived.peer, arrived.opened);
    let mut greeting = Greeting { worker: &worker, heard: false, name: None };
    let done = greeting.shake(arrived).await;
    open.sub(1);
    match done {
        Ok(quiet) => {
            let is_whole = quiet.secured.as_ref().is_none_or(|secured| !secured.resumed);
            worker.cells.handshake(if is_whole { Handshake::Full } else { Handshake::Resumed });
            // Another task: this one has held what only a handshake needs.
            if quiet.secured.as_ref().is_some_and(|secured| secured.h2) {
                let connection = decode::h2::connection(quiet, Vec::new(), Rc::clone(&worker), seat);
                tokio::task::spawn_local(connection);
            } else {
                let connection = decode::h1::connection(quiet, Rc::clone(&worker), seat);
                tokio::task::spawn_local(connection);
            }
        }
        Err(Unmet { end, detail }) => {
            let lasted = worker.clock.now().since(began);
            let (name, detail) = (greeting.name.as_deref(), detail.as_deref());
            tally::unshaken(&Unshaken { peer, name, end, detail, lasted }, greeting.heard, &worker);
        }
    }
}

struct Greeting<'a> {
    worker: &'a Worker,
    /// Whether the client has said anything.
    heard: bool,
    /// The host that it asks for.
    name: Option<String>,
}

/// Why hands are not shaken.
struct Unmet {
    end: Handshake,
    /// The words of the TLS library.
    detail: Option<String>,
}

impl From<Handshake> for Unmet {
    fn from(end: Handshake) -> Unmet {
        Unmet { end, detail: None }
    }
}

impl Greeting<'_> {
    async fn shake(&mut self, arrived: Quiet) -> Result<Quiet, Unmet> {
        let Quiet { mut stream, deadline, peer, listen, opened, .. } = arrived;
        let mut read = Vec::new();
        let hello = poll_fn(|cx| {
            deadline.wakes(cx);
            match self.poll_hello(cx, &mut stream, &mut read) {
                Poll::Pending => self.patience(opened, &deadline),
                done => done,
            }
        });
        let hello = hello.await;
        self.heard = !read.is_empty();
        let mut hello = hello.inspect_err(|why| turn_away(&mut stream, *why, &read))?;
        if let Some(connection) = self.challenge(&hello) {
            let proved = self.prove(stream, connection, read, opened, &deadline).await;
            self.name = hello.name.take();
            return Err(proved.err().unwrap_or_else(|| Handshake::Challenge.into()));
        }
        let found = poll_fn(|cx| {
            deadline.wakes(cx);
            match self.front(&listen, &peer, &hello) {
                Ok((name, front)) if front.has_certificate(name.as_deref()) => Poll::Ready(Ok((name, front))),
                // Whoever has left does not keep a place in the line of names.
                Ok((_, front)) if front.on_demand.is_some() && stream.has_ended() => {
                    Poll::Ready(Err(Handshake::ClientGone))
                }
                Ok((name, front)) if self.demands(name.as_deref(), &front) => {
                    self.patience(opened, &deadline)
                }
                Ok(_) => Poll::Ready(Err(Handshake::NoCertificate)),
                Err(why) => Poll::Ready(Err(why)),
            }
        });
        let found = found.await;
        self.name = hello.name.take();
        let (name, front) = found.inspect_err(|why| turn_away(&mut stream, *why, &read))?;
        let connection = front.connection(hello.suite, hello.resumes).map_err(|_| Handshake::Other)?;
        let mut layer = Layer::server(stream, connection, read);
        drop(hello);
        self.finish(&mut layer, opened, &deadline).await?;
        let agreed = layer.agreed();
        let version = version_name(agreed.protocol_version());
        let resumed = agreed.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        let shown = agreed.peer_certificates().and_then(<[_]>::first);
        let client = shown.and_then(|shown| identity(shown));
        let proof = Arc::new(Proof { name, version, client });
        let h2 = agreed.alpn_protocol() == Some(b"h2");
        let secured = Some(Rc::new(Secured { proof, front, resumed, h2 }));
        let stream = Stream::Tls(Box::new(layer));
        let opened = self.worker.clock.refresh();
        Ok(Quiet { stream, deadline, peer, listen, secured, opened, requests: 0, ahead: 0 })
    }

    /// The other side of a CA that looks whether a host is ours (RFC 8737 §3).
    fn challenge(&self, hello: &Hello) -> Option<UnbufferedServerConnection> {
        let name = hello.name.as_deref().filter(|_| Challenges::is_asked(&hello.protocols))?;
        self.worker.run().snapshot.challenges.connection(&name.to_ascii_lowercase())
    }

    /// Shakes hands with a CA, which is all that it wants.
    async fn prove(
        &self,
        stream: Stream,
        connection: UnbufferedServerConnection,
        read: Vec<u8>,
        opened: Tick,
        deadline: &Deadline,
    ) -> Result<(), Unmet> {
        self.finish(&mut Layer::server(stream, connection, read), opened, deadline).await
    }

    /// What is left when it is known who asks for what.
    async fn finish(&self, layer: &mut Layer, opened: Tick, deadline: &Deadline) -> Result<(), Unmet> {
        layer.begin().map_err(|error| why(&error))?;
        poll_fn(|cx| match layer.poll_handshake(cx) {
            Poll::Ready(done) => Poll::Ready(done.map_err(|error| why(&error))),
            Poll::Pending => self.patience(opened, deadline).map_err(Unmet::from),
        })
        .await
    }

    /// Whether a certificate for this name may come while the client waits.
    fn demands(&self, name: Option<&str>, front: &Front) -> bool {
        let (Some(name), Some(signer)) = (name, front.on_demand) else { return false };
        self.worker.run().snapshot.demands.ask(name, signer, self.worker.clock.now())
    }

    /// Reads until the ClientHello is whole. No buffer is held while it waits.
    fn poll_hello(
        &self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        read: &mut Vec<u8>,
    ) -> Poll<Result<Hello, Handshake>> {
        loop {
            let mut buffer = self.worker.buffers.small();
            let count = stream.poll_read(cx, &mut buffer);
            if let Poll::Ready(Ok(count)) = count {
                read.extend_from_slice(buffer.get(..count).unwrap_or(&[]));
            }
            self.worker.buffers.give(buffer);
            match ready!(count) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Poll::Ready(Err(Handshake::ClientGone)),
            }
            match hello::read(read) {
                Ok(None) => {}
                Ok(Some(hello)) => return Poll::Ready(Ok(hello)),
                Err(NoHello::NotTls) => return Poll::Ready(Err(Handshake::NotTls)),
                Err(NoHello::Broken | NoHello::TooLong) => return Poll::Ready(Err(Handshake::BadHello)),
            }
        }
    }

    /// Pending, as long as there is time: less of it while many others shake hands, so that those who begin and do not go on take
    /// nobody's place.
    fn patience<T>(&self, opened: Tick, deadline: &Deadline) -> Poll<Result<T, Handshake>> {
        let now = self.worker.clock.refresh();
        let limits = self.worker.limits();
        let many = self.worker.cells.handshakes_open.get() * self.worker.count() as u64;
        let pressed = many > limits.handshakes as u64;
        let time = if pressed { limits.handshake_time_pressed } else { limits.handshake_time };
        let until = opened + time.min(limits.handshake_time);
        if now >= until {
            return Poll::Ready(Err(Handshake::Timeout));
        }
        if now >= self.worker.sends_away_at(0, opened) {
            return Poll::Ready(Err(Handshake::Stopping));
        }
        deadline.set(until.min(now + LOOK_EVERY));
        Poll::Pending
    }

    /// The host that is asked for, and how its site shakes hands. Nobody falls into a site that does not name the host (attack F12):
    /// who names none gets the site of the address, or one that is for any host.
    fn front(
        &self,
        listen: &Listen,
        peer: &Peer,
        hello: &Hello,
    ) -> Result<(Option<Box<str>>, Arc<Front>), Handshake> {
        let snapshot = &self.worker.run().snapshot;
        let mut target = Target::new();
        let host = match &hello.name {
            Some(name) => {
                let taken = target.set_authority(name.as_bytes());
                if taken.is_err() || target.port().is_some() {
                    return Err(Handshake::UnknownName);
                }
                target.host().to_owned()
            }
            None => match peer.ours.ip() {
                IpAddr::V4(address) => address.to_string(),
                IpAddr::V6(address) => format!("[{address}]"),
            },
        };
        let site = snapshot.table.site_at(listen, &host);
        let front = site.and_then(|site| snapshot.fronts.site(site)).ok_or(Handshake::UnknownName)?;
        Ok((hello.name.as_ref().map(|_| host.into_boxed_str()), Arc::clone(front)))
    }
}

/// Says why there is no handshake, as far as that can be said without waiting.
fn turn_away(stream: &mut Stream, why: Handshake, read: &[u8]) {
    let alert = |code: u8| vec![21, 3, 3, 0, 2, 2, code]; // RFC 8446 §6.2, before anything is encrypted
    let words = match why {
        Handshake::UnknownName => alert(AlertDescription::UnrecognisedName.into()),
        Handshake::NoCertificate => alert(AlertDescription::InternalError.into()),
        Handshake::BadHello => alert(AlertDescription::DecodeError.into()),
        // Plain HTTP where TLS is spoken is told in its own language (attack D15).
        Handshake::NotTls if read.first().is_some_and(u8::is_ascii_uppercase) => PLAIN.to_vec(),
        _ => return,
    };
    let mut cx = Context::from_waker(Waker::noop());
    let _ = stream.poll_write(&mut cx, &words);
    let _ = stream.poll_end(&mut cx);
}

/// Why a handshake has failed.
fn why(error: &io::Error) -> Unmet {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let end = match inner {
        None => Handshake::ClientGone,
        Some(Error::PeerIncompatible(_)) => Handshake::NothingInCommon,
        Some(Error::NoApplicationProtocol) => Handshake::NoProtocol,
        Some(Error::AlertReceived(_)) => Handshake::ClientRefused,
        Some(Error::InvalidCertificate(_) | Error::NoCertificatesPresented) => Handshake::ClientCertificate,
        Some(_) => Handshake::Other,
    };
    Unmet { end, detail: inner.map(Error::to_string) }
}

/// What a client hears for whom there is no room: the alert `internal_error`, before anything is encrypted (RFC 8446 §6.2).
pub(super) const FULL: &[u8] = &[21, 3, 3, 0, 2, 2, 80];
/// What whoever speaks plain HTTP hears.
const PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 37\r\nConnection: close\r\n\r\nThis address speaks HTTPS, not HTTP.\n";
