//! TLS over a stream, the same for both sides: records are opened and sealed in buffers of the thread, so that a quiet connection holds none.

use super::{Front, Stream};
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{CommonState, ProtocolVersion};
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

/// A connection that speaks TLS over another one.
pub struct Layer {
    socket: Stream,
    side: Conn,
    /// The beginning of a record, or of a handshake message, that has not come whole.
    rest: Vec<u8>,
    /// What was opened and not yet asked for.
    plain: Vec<u8>,
    plain_at: usize,
    /// What was sealed and not yet sent.
    out: Vec<u8>,
    out_at: usize,
    ended: Option<End>,
    /// Whether what was sealed are tickets, which nobody waits for: they leave with what is written next.
    idle_talk: bool,
    /// Whether the good-bye leaves with what is written next.
    bye_follows: bool,
    said_bye: bool,
    cut: bool,
}

/// Which side we are.
enum Conn {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// How the peer has ended its half.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// It said so.
    Told,
    /// The connection below has ended without a word of it (RFC 8446 §6.1).
    Untold,
}

/// What to do after a step of the protocol.
enum Step {
    Again,
    Wait,
    PeerClosed,
}

impl Layer {
    /// The server of a client whose first bytes have been read already.
    pub fn server(socket: Stream, connection: UnbufferedServerConnection, read: Vec<u8>) -> Layer {
        Layer::new(socket, Conn::Server(connection), read)
    }

    /// The client of a server.
    pub fn client(socket: Stream, connection: UnbufferedClientConnection) -> Layer {
        Layer::new(socket, Conn::Client(connection), Vec::new())
    }

    fn new(socket: Stream, side: Conn, rest: Vec<u8>) -> Layer {
        Layer {
            socket,
            side,
            rest,
            plain: Vec::new(),
            plain_at: 0,
            out: Vec::new(),
            out_at: 0,
            ended: None,
            idle_talk: false,
            bye_follows: false,
            said_bye: false,
            cut: false,
        }
    }

    fn is_server(&self) -> bool {
        matches!(self.side, Conn::Server(_))
    }

    /// What was agreed on.
    pub fn agreed(&self) -> &CommonState {
        match &self.side {
            Conn::Server(connection) => connection,
            Conn::Client(connection) => connection,
        }
    }

    /// Looks at what has been read already; to be called once before [`Layer::poll_handshake`].
    pub fn begin(&mut self) -> io::Result<()> {
        let mut read = std::mem::take(&mut self.rest);
        let (used, _) = self.open(&mut read, &mut [])?;
        self.rest.extend_from_slice(read.get(used..).unwrap_or(&[]));
        Ok(())
    }

    /// Shakes hands to the end.
    pub fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let is_over = !self.agreed().is_handshaking();
            // A client's last word goes along with its first request; in TLS 1.2 the last word may be the server's, and is waited for.
            let is_new = self.agreed().protocol_version() == Some(ProtocolVersion::TLSv1_3);
            if is_over && (is_new || matches!(self.side, Conn::Client(_))) {
                if self.is_server() {
                    // Tickets go along with an answer that is asked for already. Otherwise they go at once: a client that sends its
                    // request when its last word has been acknowledged (Nagle) would wait for a timer of ours.
                    self.idle_talk = self.plain_at < self.plain.len();
                    self.flush_now();
                }
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_flush(cx))?;
            if is_over {
                return Poll::Ready(Ok(()));
            }
            if self.ended.is_some() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            ready!(self.socket.poll_readable(cx))?;
            match self.receive(&mut []) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => _ = done?,
            }
        }
    }

    /// Reads what was opened into `buffer`, and opens more when there is none and an event has told of it.
    pub fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.take_plain(buffer);
            if count > 0 {
                return Ok(count);
            }
            match self.ended {
                None => {}
                // A client that goes without a word owes us nothing; an answer may have been cut off by somebody else.
                Some(End::Untold) if matches!(self.side, Conn::Client(_)) => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Some(_) => return Ok(0),
            }
            let count = self.receive(buffer)?;
            self.flush_now(); // what the protocol had to say to that
            if count > 0 {
                return Ok(count);
            }
        }
    }

    /// How many bytes wait to be asked for, here and in the kernel.
    pub fn queued(&self) -> usize {
        self.plain.len() - self.plain_at + self.rest.len() + self.socket.queued()
    }

    fn take_plain(&mut self, buffer: &mut [u8]) -> usize {
        let here = self.plain.get(self.plain_at..).unwrap_or(&[]);
        let count = here.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), here.get(..count)) {
            to.copy_from_slice(from);
        }
        self.plain_at += count;
        if self.plain_at == self.plain.len() && self.plain_at > 0 {
            (self.plain, self.plain_at) = (Vec::new(), 0);
        }
        count
    }

    /// Receives once and opens what has come whole: into `buffer` first. Says how much of that was filled.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        INPUT.with_borrow_mut(|input| {
            let most = received_at_once(buffer.len());
            let room = input.get_mut(REST_MAX..REST_MAX + most).unwrap_or(&mut []);
            let count = match self.socket.try_read(room) {
                // Who leaves what we sent unread, tickets for example, resets the connection by closing it.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset && self.is_server() => 0,
                done => done?,
            };
            self.received(input, count, buffer)
        })
    }

    /// `count` new bytes stand in `input` behind the place for those that came before.
    fn received(&mut self, input: &mut [u8], count: usize, buffer: &mut [u8]) -> io::Result<usize> {
        if count == 0 {
            self.ended.get_or_insert(End::Untold);
            return Ok(0);
        }
        let start = REST_MAX.checked_sub(self.rest.len()).ok_or(io::ErrorKind::InvalidData)?;
        if let Some(before) = input.get_mut(start..REST_MAX) {
            before.copy_from_slice(&self.rest);
        }
        self.rest = Vec::new();
        let all = input.get_mut(start..REST_MAX + count).unwrap_or(&mut []);
        let (used, filled) = self.open(all, buffer)?;
        self.rest.extend_from_slice(all.get(used..).unwrap_or(&[]));
        Ok(filled)
    }

    /// Opens all records that are whole. Says how many bytes were used, and how much of `buffer` was filled.
    fn open(&mut self, records: &mut [u8], buffer: &mut [u8]) -> io::Result<(usize, usize)> {
        let (mut used, mut filled) = (0, 0);
        let Layer { side, plain, out, ended, .. } = self;
        let mut take = |opened: &[u8]| {
            let room = buffer.get_mut(filled..).unwrap_or(&mut []);
            let count = room.len().min(opened.len());
            let (now, later) = opened.split_at(count);
            if let Some(room) = room.get_mut(..count) {
                room.copy_from_slice(now);
            }
            filled += count;
            plain.extend_from_slice(later);
        };
        loop {
            let here = records.get_mut(used..).unwrap_or(&mut []);
            let (discard, step) = match side {
                Conn::Server(connection) => step(connection.process_tls_records(here), &mut take, out),
                Conn::Client(connection) => step(connection.process_tls_records(here), &mut take, out),
            };
            used += discard;
            match step {
                Ok(Step::Again) => {}
                Ok(Step::Wait) => return Ok((used, filled)),
                Ok(Step::PeerClosed) => _ = ended.insert(End::Told),
                Err(error) => {
                    self.complain(records.get_mut(used..).unwrap_or(&mut []));
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
            }
        }
    }

    /// Tells the peer what was wrong, as far as that can be said without waiting. Nothing is opened or sealed after that.
    fn complain(&mut self, records: &mut [u8]) {
        self.cut = true;
        self.idle_talk = false;
        self.ended = Some(End::Untold);
        while self.agreed().wants_write() {
            let mut nothing = |_: &[u8]| {};
            let (_, step) = match &mut self.side {
                Conn::Server(it) => step(it.process_tls_records(records), &mut nothing, &mut self.out),
                Conn::Client(it) => step(it.process_tls_records(records), &mut nothing, &mut self.out),
            };
            if !matches!(step, Ok(Step::Again)) {
                break;
            }
        }
        self.flush_now();
    }

    /// Writes some of `bytes`, in as few records as they fit into. What the connection below does not take at once is
    /// kept until [`Layer::poll_flush`], or the next write.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_all(cx, &[], bytes)
    }

    /// Writes some of `pieces`, in order; small ones in one record.
    pub fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match pieces {
            [first, second, ..] if !first.is_empty() => self.poll_write_all(cx, first, second),
            [_, second, ..] => self.poll_write_all(cx, &[], second),
            [only] => self.poll_write_all(cx, &[], only),
            [] => Poll::Ready(Ok(0)),
        }
    }

    fn poll_write_all(&mut self, cx: &mut Context<'_>, head: &[u8], body: &[u8]) -> Poll<io::Result<usize>> {
        if head.is_empty() && body.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if self.out.len() - self.out_at > OUT_KEPT_MAX {
            ready!(self.poll_flush_all(cx))?;
        }
        self.settle()?;
        let asked = head.len() + body.len();
        OUTPUT.with_borrow_mut(|output| {
            let head = head.get(..head.len().min(WRITE_STEP)).unwrap_or(head);
            let body = body.get(..body.len().min(WRITE_STEP - head.len())).unwrap_or(body);
            let waiting = self.out.get(self.out_at..).unwrap_or(&[]);
            let mut end = waiting.len();
            if let Some(room) = output.get_mut(..end) {
                room.copy_from_slice(waiting);
            }
            if !head.is_empty() && head.len() + body.len() <= RECORD {
                // One record and one write for a head with a small body.
                JOINED.with_borrow_mut(|joined| {
                    joined.clear();
                    joined.extend_from_slice(head);
                    joined.extend_from_slice(body);
                    end += self.seal(joined, output.get_mut(end..).unwrap_or(&mut []))?;
                    Ok::<_, io::Error>(())
                })?;
            } else {
                for piece in [head, body] {
                    end += self.seal(piece, output.get_mut(end..).unwrap_or(&mut []))?;
                }
            }
            if self.bye_follows && head.len() + body.len() == asked {
                end += self.seal_bye(output.get_mut(end..).unwrap_or(&mut []));
            }
            (self.out, self.out_at, self.idle_talk) = (Vec::new(), 0, false);
            let sealed = output.get(..end).unwrap_or(&[]);
            let mut sent = 0;
            while let Some(left) = sealed.get(sent..).filter(|left| !left.is_empty()) {
                match self.socket.poll_write(cx, left) {
                    Poll::Ready(Ok(count @ 1..)) => sent += count,
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {
                        self.out.extend_from_slice(left);
                        break;
                    }
                }
            }
            Poll::Ready(Ok(head.len() + body.len()))
        })
    }

    /// Lets the protocol say what it has to say before anything else is sealed.
    fn settle(&mut self) -> io::Result<()> {
        if self.cut {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if !self.agreed().wants_write() {
            return Ok(());
        }
        self.begin()
    }

    /// Seals `bytes` into `to`; says how many bytes that made. The library is always shown what has not come whole: it remembers
    /// places in it.
    fn seal(&mut self, bytes: &[u8], to: &mut [u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let (discard, sealed) = match &mut self.side {
            Conn::Server(connection) => seal(connection.process_tls_records(&mut self.rest), bytes, to),
            Conn::Client(connection) => seal(connection.process_tls_records(&mut self.rest), bytes, to),
        };
        self.rest.drain(..discard.min(self.rest.len()));
        sealed
    }

    /// Sends what was sealed and somebody waits for.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.idle_talk { Poll::Ready(Ok(())) } else { self.poll_flush_all(cx) }
    }

    fn poll_flush_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(left) = self.out.get(self.out_at..).filter(|left| !left.is_empty()) {
            match ready!(self.socket.poll_write(cx, left))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.out_at += count,
            }
        }
        if self.out_at > 0 {
            (self.out, self.out_at) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what was sealed as far as there is room, and wakes nobody when there is more.
    fn flush_now(&mut self) {
        if self.idle_talk {
            return;
        }
        while let Some(left) = self.out.get(self.out_at..).filter(|left| !left.is_empty()) {
            match self.socket.send(left) {
                Ok(count @ 1..) => self.out_at += count,
                _ => return,
            }
        }
        if self.out_at > 0 {
            (self.out, self.out_at) = (Vec::new(), 0);
        }
    }

    /// Ends our half: says so, and then ends the half below.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.say_bye();
        ready!(self.poll_flush_all(cx))?;
        self.socket.poll_end(cx)
    }

    /// What is written next is the last: the good-bye leaves with it.
    pub fn end_with_next(&mut self) {
        self.bye_follows = true;
    }

    fn say_bye(&mut self) {
        let mut alert = [0; 256];
        let length = self.seal_bye(&mut alert);
        self.out.extend_from_slice(alert.get(..length).unwrap_or(&[]));
    }

    /// Seals the good-bye, which is said once, into `to`; says how many bytes that made.
    fn seal_bye(&mut self, to: &mut [u8]) -> usize {
        if self.said_bye || self.cut || self.agreed().is_handshaking() {
            return 0;
        }
        self.said_bye = true;
        match &mut self.side {
            Conn::Server(connection) => bye(connection.process_tls_records(&mut self.rest), to),
            Conn::Client(connection) => bye(connection.process_tls_records(&mut self.rest), to),
        }
    }

    /// Whether a read would find something.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.plain_at < self.plain.len() || self.ended.is_some() {
            return Poll::Ready(Ok(()));
        }
        self.socket.poll_readable(cx)
    }

    /// What stands at the front: records that are no data are taken in, for they are nothing to whoever asks. `now`: the kernel is asked even
    /// when no event said that there is something.
    pub fn front(&mut self, now: bool) -> Front {
        loop {
            if self.plain_at < self.plain.len() {
                return Front::Data;
            }
            if self.ended.is_some() {
                return Front::Ended;
            }
            let received = INPUT.with_borrow_mut(|input| {
                let room = input.get_mut(REST_MAX..REST_MAX + FRONT_BYTES).unwrap_or(&mut []);
                let received = if now { self.socket.recv(room) } else { self.socket.try_read(room) };
                match received {
                    Ok(count) => self.received(input, count, &mut []).map(drop),
                    Err(error) => Err(error),
                }
            });
            match received {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.rest.is_empty() => {
                    return Front::Quiet;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Front::Data,
                Err(_) => return Front::Broken,
            }
        }
    }

    /// See [`Stream::has_ended`].
    pub fn has_ended(&self) -> bool {
        self.socket.has_ended()
    }

    /// How many bytes have not arrived at the peer's machine.
    pub fn unconfirmed(&self) -> usize {
        self.socket.unconfirmed()
    }

    /// Makes the end of the connection look like the failure that it is: no good-bye, and a reset.
    pub fn reset_on_drop(&mut self) {
        self.cut = true;
        self.socket.reset_on_drop();
    }
}

impl Drop for Layer {
    fn drop(&mut self) {
        // Nothing waits here: whoever wanted to be sure has ended the half before.
        self.idle_talk = false;
        self.say_bye();
        self.flush_now();
    }
}

impl std::fmt::Debug for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Layer({:?} over {:?})", self.agreed().protocol_version(), self.socket)
    }
}

/// What was agreed on, as it is spoken of.
pub fn version_name(version: Option<ProtocolVersion>) -> &'static str {
    match version {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "",
    }
}

fn step<D>(
    status: UnbufferedStatus<'_, '_, D>,
    take: &mut dyn FnMut(&[u8]),
    out: &mut Vec<u8>,
) -> (usize, Result<Step, rustls::Error>) {
    let UnbufferedStatus { mut discard, state } = status;
    let step = match state {
        Err(error) => Err(error),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
            match traffic.next_record() {
                Some(Ok(record)) => {
                    discard += record.discard;
                    take(record.payload);
                }
                Some(Err(error)) => break Err(error),
                None => break Ok(Step::Again),
            }
        },
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            let start = out.len();
            if let Err(EncodeError::InsufficientSize(short)) = data.encode(&mut []) {
                out.resize(start + short.required_size, 0);
            }
            match data.encode(out.get_mut(start..).unwrap_or(&mut [])) {
                Ok(length) => {
                    out.truncate(start + length);
                    Ok(Step::Again)
                }
                Err(_) => Err(rustls::Error::EncryptError),
            }
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done(); // it stands in `out`, and goes before everything else
            Ok(Step::Again)
        }
        Ok(ConnectionState::PeerClosed) => Ok(Step::PeerClosed),
        Ok(
            ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) | ConnectionState::Closed,
        ) => Ok(Step::Wait),
        // Early data is never offered (0-RTT can be played again).
        Ok(_) => Err(rustls::Error::HandshakeNotComplete),
    };
    (discard, step)
}

fn seal<D>(status: UnbufferedStatus<'_, '_, D>, bytes: &[u8], to: &mut [u8]) -> (usize, io::Result<usize>) {
    let sealed = match status.state {
        Ok(ConnectionState::WriteTraffic(mut traffic)) => {
            traffic.encrypt(bytes, to).map_err(|error| io::Error::other(error.to_string()))
        }
        _ => Err(io::ErrorKind::BrokenPipe.into()),
    };
    (status.discard, sealed)
}

fn bye<D>(status: UnbufferedStatus<'_, '_, D>, to: &mut [u8]) -> usize {
    match status.state {
        Ok(ConnectionState::WriteTraffic(mut traffic)) => traffic.queue_close_notify(to).unwrap_or(0),
        _ => 0,
    }
}

/// How much to receive when so much plain text is asked for: as much as becomes that.
fn received_at_once(room: usize) -> usize {
    let room = room.clamp(RECEIVE_MIN, RECEIVE_MAX);
    room + (room / RECORD + 1) * OVERHEAD
}

thread_local! {
    /// What has been received: first the place for what came before, then the new.
    static INPUT: RefCell<Box<[u8]>> = RefCell::new(vec![0; REST_MAX + RECEIVE_MAX + 8 * OVERHEAD].into());
    /// What is to be sent.
    static OUTPUT: RefCell<Box<[u8]>> = RefCell::new(vec![0; OUT_KEPT_MAX + WRITE_STEP + SLACK].into());
    /// A head and a small body, one after the other.
    static JOINED: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(RECORD));
}

/// The longest text of one record.
const RECORD: usize = 16 << 10;
/// What a record has beside its text, at most, as we and most others write it.
const OVERHEAD: usize = 32;
/// The longest that may have to come whole before it means anything: a handshake message of 64 KiB and the heads of its records.
const REST_MAX: usize = 80 << 10;
const RECEIVE_MIN: usize = 4 << 10;
const RECEIVE_MAX: usize = 64 << 10;
/// How much is received to see what stands at the front.
const FRONT_BYTES: usize = 4 << 10;
/// How much is sealed in one go.
const WRITE_STEP: usize = 64 << 10;
/// What may wait to be sent when more is sealed.
const OUT_KEPT_MAX: usize = 8 << 10;
/// For the heads of the records, and what the protocol adds.
const SLACK: usize = 4 << 10;
