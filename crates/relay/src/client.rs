//! Client: the client's side of an exchange — its connection or stream, what it may still expect, and whether it is still there.

use crate::buffers::Buffers;
use crate::crowd::Aside;
use crate::deadlines::Deadline;
use crate::filter::forwarded::Told;
use crate::hosts::HostSet;
use crate::link::Link;
use crate::net::{Front, Stream};
use crate::plan::Listen;
use crate::tls::Secured;
use portunus_message::{Crime, Error, Exchange, Fields, Peer, Phase, Side, Status, Tick};
use portunus_wire::h1::{Version, emit};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// How long an answer is still waited for when the client has ended its half: it may only have said that it will
/// send nothing more, or it may be gone.
const HALF_CLOSED: Duration = Duration::from_secs(5);

/// One client connection that speaks HTTP/1, or one stream of a connection that speaks HTTP/2.
#[derive(Debug)]
pub struct Client {
    /// The connection, or the stream.
    pub link: Link,
    /// The one deadline of its task.
    pub deadline: Deadline,
    /// Both ends.
    pub peer: Peer,
    /// By which listener it came.
    pub listen: Rc<Listen>,
    /// What it is secured by; none: it is plain.
    pub secured: Option<Rc<Secured>>,
    /// When it was accepted.
    pub opened: Tick,
    /// When the first byte of the request under way came.
    pub began: Tick,
    /// How many requests it has made.
    pub requests: u64,
    /// How many of its next requests go before others (see the turnstile).
    pub ahead: u8,
    /// Whether the request under way is one that may have to wait for its turn: who asks for nothing that takes time is not sent away for those who do.
    pub stood_in_line: bool,
    /// There once it is told to leave, so that fewer are inside, or has become a tunnel.
    pub aside: Option<Aside>,
    /// The version of the request under way; those above HTTP/1.1 can do what that can.
    pub version: Version,
    /// Whether a further request may follow this exchange.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// Whether the head of the final answer has been put into the link.
    pub answered: bool,
    ended_at: Option<Tick>,
    more: bool,
}

/// A client connection between two requests: nothing but what has to be remembered. Most connections are quiet most
/// of the time, so this is what ten thousand of them cost.
#[derive(Debug)]
pub struct Quiet {
    /// The connection.
    pub stream: Stream,
    /// The one deadline of the connection's task.
    pub deadline: Deadline,
    /// Both ends.
    pub peer: Peer,
    /// By which listener it came.
    pub listen: Rc<Listen>,
    /// What it is secured by; none: it is plain.
    pub secured: Option<Rc<Secured>>,
    /// When it was accepted.
    pub opened: Tick,
    /// How many requests it has made.
    pub requests: u64,
    /// How many of its next requests go before others (see the turnstile).
    pub ahead: u8,
}

/// The memory of an exchange and its client, used again for the next one, of any connection.
#[derive(Debug, Default)]
pub struct Active {
    /// The client; there while the connection is not quiet.
    pub client: Option<Client>,
    /// The exchange.
    pub exchange: Exchange,
    /// Everything else that is used in its course.
    pub scratch: Scratch,
}

/// Memory that an exchange uses on its way.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Fields that filters want on the answer.
    pub later: Fields,
    /// What upstreams are told of the client.
    pub told: Told,
    /// Hosts that have been tried.
    pub tried: HostSet,
    /// The text a policy decides by.
    pub key: Vec<u8>,
}

impl Client {
    /// A quiet connection on which something has come.
    pub fn wake(quiet: Quiet, buffers: Rc<Buffers>) -> Client {
        let Quiet { stream, deadline, peer, listen, secured, opened, requests, ahead } = quiet;
        Client {
            link: Link::new(stream, Side::Client, buffers),
            deadline,
            peer,
            listen,
            secured,
            opened,
            began: opened,
            requests,
            ahead,
            stood_in_line: false,
            aside: None,
            version: Version::Http11,
            keep_alive: true,
            expects_continue: false,
            answered: false,
            ended_at: None,
            more: false,
        }
    }

    /// A stream on which a request has come.
    pub fn of_stream(
        link: Link,
        deadline: Deadline,
        peer: Peer,
        listen: Rc<Listen>,
        secured: Option<Rc<Secured>>,
        opened: Tick,
    ) -> Client {
        Client {
            link,
            deadline,
            peer,
            listen,
            secured,
            opened,
            began: opened,
            requests: 1,
            ahead: 0,
            stood_in_line: false,
            aside: None,
            version: Version::Http11,
            keep_alive: false,
            expects_continue: false,
            answered: false,
            ended_at: None,
            more: false,
        }
    }

    /// The connection after an exchange, when nothing of another one has come yet. A stream has no further exchanges.
    pub fn doze(self) -> Option<Quiet> {
        let Client { link, deadline, peer, listen, secured, opened, requests, ahead, .. } = self;
        let Link::H1(link) = link else { return None };
        Some(Quiet { stream: link.into_stream(), deadline, peer, listen, secured, opened, requests, ahead })
    }

    /// Forgets the last request.
    pub fn begin(&mut self) {
        self.expects_continue = false;
        self.answered = false;
        self.more = false;
        self.stood_in_line = false;
        self.requests += 1;
    }

    /// Whether the client has gone while it is owed an answer. Asks the kernel only when an event came.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>, now: Tick) -> Poll<Error> {
        if let Some(ended_at) = self.ended_at {
            return if now.since(ended_at) >= HALF_CLOSED { Poll::Ready(gone()) } else { Poll::Pending };
        }
        let link = match &mut self.link {
            Link::H1(link) => link,
            Link::Front(link) => return link.poll_over(cx, Phase::Wait),
            Link::H2(_) => return Poll::Pending, // that is none of a client
        };
        if self.more || link.has_more() {
            return Poll::Pending; // a further request has come: it is read when its turn comes
        }
        loop {
            if ready!(link.stream.poll_readable(cx)).is_err() {
                return Poll::Ready(gone());
            }
            match link.stream.front() {
                // An event without anything behind it: only another look asks to be woken by the next one.
                Front::Quiet => continue,
                Front::Data => self.more = true,
                Front::Ended => {
                    self.ended_at = Some(now);
                    self.keep_alive = false;
                }
                Front::Broken => return Poll::Ready(gone()),
            }
            return Poll::Pending;
        }
    }

    /// Whether the client has ended its half, as far as [`Client::poll_gone`] has seen.
    pub fn has_ended(&self) -> bool {
        self.ended_at.is_some()
    }

    /// When an answer is no longer waited for because the client has ended its half.
    pub fn patience_ends(&self) -> Tick {
        self.ended_at.map_or(Tick::NEVER, |ended_at| ended_at + HALF_CLOSED)
    }

    /// Puts an informational head in.
    pub fn inform(&mut self, status: Status, fields: &Fields) {
        match &mut self.link {
            Link::H1(link) => emit::informational(status, fields, link.begin_output()),
            Link::Front(link) => link.inform(status, fields),
            Link::H2(_) => {} // that is none of a client
        }
    }

    /// Sends `100 Continue` when the client waits for it (RFC 9110 §10.1.1) and its body is really wanted.
    pub fn welcome_body(&mut self) {
        if std::mem::take(&mut self.expects_continue) && !self.link.has_more() && !self.link.is_read() {
            self.inform(Status::CONTINUE, &Fields::new());
        }
    }
}

fn gone() -> Error {
    Error::client(Phase::Wait, Crime::ClientGone)
}
