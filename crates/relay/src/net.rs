//! Every call to the operating system's network: streams, listeners, connecting.

mod sockets;
pub mod tls;
mod unconfirmed;
mod unix;

pub use sockets::{Given, Listener, Sockets, name_of};
pub use unix::{Claim, bind_unix};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tls::Layer;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A connected stream of bytes.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a unix socket.
    Unix(UnixStream),
    /// TLS over one of them.
    Tls(Box<Layer>),
}

/// What stands at the front of a stream, seen without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// Nothing yet.
    Quiet,
    /// At least one byte.
    Data,
    /// The peer has ended its half.
    Ended,
    /// The connection is broken.
    Broken,
}

impl Stream {
    /// Reads into `buffer`.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_readable(cx))?;
            match self.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    /// Reads into `buffer` what is there, if an event has told of it. Fewer bytes than it holds mean that there are no more now: no
    /// further call is needed to learn that.
    pub fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Stream::Tls(layer) = self {
            return layer.try_read(buffer);
        }
        let stream = &*self;
        let mut last = None;
        let read = || match stream.recv(buffer) {
            Ok(count) if count > 0 && count < buffer.len() => {
                last = Some(count);
                Err(io::ErrorKind::WouldBlock.into()) // what a further call would say
            }
            done => done,
        };
        let done = match stream {
            Stream::Tcp(stream) => stream.try_io(Interest::READABLE, read),
            Stream::Unix(stream) => stream.try_io(Interest::READABLE, read),
            Stream::Tls(_) => return Err(no_tls()),
        };
        last.map_or(done, Ok)
    }

    /// Whether what is written goes through TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self, Stream::Tls(_))
    }

    /// Looks at what is there without taking it, if an event has told of it. TLS has nothing to look at.
    pub fn try_peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let flags = RecvFlags::PEEK;
        match self {
            Stream::Tcp(stream) => stream.try_io(Interest::READABLE, || {
                Ok(rustix::net::recv(stream, buffer, flags).map(|(count, _)| count)?)
            }),
            Stream::Unix(stream) => stream.try_io(Interest::READABLE, || {
                Ok(rustix::net::recv(stream, buffer, flags).map(|(count, _)| count)?)
            }),
            Stream::Tls(_) => Err(no_tls()),
        }
    }

    // The two go to the kernel without a detour: what the C library adds for threads that may be cancelled is of no use here.

    fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let received = match self {
            Stream::Tcp(stream) => rustix::net::recv(stream, buffer, RecvFlags::empty()),
            Stream::Unix(stream) => rustix::net::recv(stream, buffer, RecvFlags::empty()),
            Stream::Tls(_) => return Err(no_tls()),
        };
        Ok(received.map(|(count, _)| count)?)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        // SIGPIPE is ignored in every Rust program.
        let sent = match self {
            Stream::Tcp(stream) => rustix::net::send(stream, bytes, SendFlags::empty()),
            Stream::Unix(stream) => rustix::net::send(stream, bytes, SendFlags::empty()),
            Stream::Tls(_) => return Err(no_tls()),
        };
        Ok(sent?)
    }

    /// Writes some of `bytes`. There is nearly always room, so that is tried before anybody asks to be woken, and
    /// before any event has told of it: a new connection need not be waited for once more.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Stream::Tls(layer) = self {
            return layer.poll_write(cx, bytes);
        }
        match self.send(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return Poll::Ready(done),
        }
        match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(layer) => layer.poll_write(cx, bytes),
        }
    }

    /// Writes some of `pieces`, in order.
    pub fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
            Stream::Tls(layer) => layer.poll_write_vectored(cx, pieces),
        }
    }

    /// Sends what was written and has not left: TLS may keep sealed records that the kernel had no room for.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => Poll::Ready(Ok(())),
            Stream::Tls(layer) => layer.poll_flush(cx),
        }
    }

    /// Ends our half.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(layer) => layer.poll_end(cx),
        }
    }

    /// Whether a read would find something: data, an end or an error. Asks the kernel nothing.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(stream) => stream.poll_read_ready(cx),
            Stream::Unix(stream) => stream.poll_read_ready(cx),
            Stream::Tls(layer) => layer.poll_readable(cx),
        }
    }

    /// What stands at the front. Asks the kernel only when an event said that there may be something.
    pub fn front(&mut self) -> Front {
        let mut byte = [MaybeUninit::uninit()];
        let seen = match self {
            Stream::Tcp(stream) => {
                stream.try_io(Interest::READABLE, || SockRef::from(&*stream).peek(&mut byte))
            }
            Stream::Unix(stream) => {
                stream.try_io(Interest::READABLE, || SockRef::from(&*stream).peek(&mut byte))
            }
            Stream::Tls(layer) => return layer.front(false),
        };
        front_of(seen)
    }

    /// What stands at the front. Asks the kernel even when no event said so: for requests that must not meet a dead connection.
    pub fn front_now(&mut self) -> Front {
        let mut byte = [MaybeUninit::uninit()];
        front_of(match self {
            Stream::Tcp(stream) => SockRef::from(&*stream).peek(&mut byte),
            Stream::Unix(stream) => SockRef::from(&*stream).peek(&mut byte),
            Stream::Tls(layer) => return layer.front(true),
        })
    }

    /// Whether the peer has ended its half, or has broken the connection, behind what there is to read. Asks the kernel and takes nothing, so
    /// that whoever waits for what there is to read is still woken; below TLS that is so of the connection, whatever TLS has said.
    pub fn has_ended(&self) -> bool {
        let descriptor = match self {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
            Stream::Tls(layer) => return layer.has_ended(),
        };
        let ended = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        let mut asked = [PollFd::from_borrowed_fd(descriptor, PollFlags::RDHUP)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut asked, Some(&at_once)).is_ok() && asked[0].revents().intersects(ended)
    }

    /// The address of its end on this side; a unix socket has none, and below TLS nobody asks.
    pub fn own_address(&self) -> Option<SocketAddr> {
        match self {
            Stream::Tcp(stream) => stream.local_addr().ok(),
            Stream::Unix(_) | Stream::Tls(_) => None,
        }
    }

    /// How many of the bytes that were written have not arrived at the peer's machine, as far as that is known.
    pub fn unconfirmed(&self) -> usize {
        match self {
            Stream::Tcp(stream) => unconfirmed::unconfirmed(stream).unwrap_or(0),
            Stream::Unix(_) => 0,
            Stream::Tls(layer) => layer.unconfirmed(),
        }
    }

    /// How many bytes wait in the kernel to be read.
    pub fn queued(&self) -> usize {
        let queued = match self {
            Stream::Tcp(stream) => rustix::io::ioctl_fionread(stream),
            Stream::Unix(stream) => rustix::io::ioctl_fionread(stream),
            Stream::Tls(layer) => return layer.queued(),
        };
        queued.ok().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0)
    }

    /// Makes the kernel reset the connection when it is dropped, so that the peer sees that something was cut off.
    pub fn reset_on_drop(&mut self) {
        let linger = Some(Duration::ZERO);
        // When it cannot be set the peer still sees a close, only a gentler one.
        let _ = match self {
            Stream::Tcp(stream) => SockRef::from(&*stream).set_linger(linger),
            Stream::Unix(_) => Ok(()),
            Stream::Tls(layer) => {
                layer.reset_on_drop();
                Ok(())
            }
        };
    }
}

/// A stream that belongs to no runtime, on its way to another worker.
#[derive(Debug)]
pub enum Detached {
    /// Over TCP.
    Tcp(std::net::TcpStream),
    /// Over a unix socket.
    Unix(std::os::unix::net::UnixStream),
}

impl Stream {
    /// Takes it off this worker's runtime.
    pub fn detach(self) -> io::Result<Detached> {
        Ok(match self {
            Stream::Tcp(stream) => Detached::Tcp(stream.into_std()?),
            Stream::Unix(stream) => Detached::Unix(stream.into_std()?),
            Stream::Tls(_) => return Err(io::ErrorKind::Unsupported.into()), // its buffers belong to this worker
        })
    }

    /// Puts it on this worker's runtime.
    pub fn attach(detached: Detached) -> io::Result<Stream> {
        Ok(match detached {
            Detached::Tcp(stream) => Stream::Tcp(TcpStream::from_std(stream)?),
            Detached::Unix(stream) => Stream::Unix(UnixStream::from_std(stream)?),
        })
    }
}

/// How many descriptors the process may have.
pub fn descriptors_max() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(1 << 20)
}

/// TLS is not put over TLS, and what is below it is asked by itself.
fn no_tls() -> io::Error {
    io::ErrorKind::Unsupported.into()
}

fn front_of(seen: io::Result<usize>) -> Front {
    match seen {
        Ok(0) => Front::Ended,
        Ok(_) => Front::Data,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Front::Quiet,
        Err(_) => Front::Broken,
    }
}

/// Connects to a TCP address.
pub async fn connect_tcp(address: SocketAddr, keep: bool) -> io::Result<Stream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    // We speak first: the request takes the last packet of the handshake along.
    socket.set_tcp_quickack(false)?;
    if keep {
        hold(&SockRef::from(&socket), address)?;
    }
    let to = SockAddr::from(address);
    // A peer on this machine has answered before the second look.
    let connected = begin_connect(&socket, &to)? || begin_connect(&socket, &to)?;
    let stream = TcpStream::from_std(socket.into())?;
    if !connected {
        stream.writable().await?;
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
    }
    Ok(Stream::Tcp(stream))
}

/// Begins to connect, or looks how it goes; says whether it is done.
fn begin_connect(socket: &Socket, to: &SockAddr) -> io::Result<bool> {
    match socket.connect(to).map_err(|error| Errno::from_io_error(&error)) {
        Ok(()) | Err(Some(Errno::ISCONN)) => Ok(true),
        Err(Some(Errno::INPROGRESS | Errno::ALREADY)) => Ok(false),
        Err(Some(errno)) => Err(errno.into()),
        Err(None) => Err(io::ErrorKind::Other.into()),
    }
}

/// Connects to a unix socket. Where as many wait there as may, the kernel does not wait as it does with TCP, so we do.
pub async fn connect_unix(path: &Path) -> io::Result<Stream> {
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(FULL_PAUSE).await,
            connected => return connected.map(Stream::Unix),
        }
    }
}

/// How long until a full unix socket is tried again.
const FULL_PAUSE: Duration = Duration::from_millis(5);

/// What the system has too little of. Whatever fails for want of it says nothing about a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Descriptors, of the process or the system.
    Descriptors,
    /// Ports for a connection to one address.
    Ports,
    /// Memory.
    Memory,
}

impl Want {
    /// What `error` was for want of.
    pub fn of(error: &io::Error) -> Option<Want> {
        match Errno::from_io_error(error)? {
            Errno::MFILE | Errno::NFILE => Some(Want::Descriptors),
            Errno::ADDRINUSE | Errno::ADDRNOTAVAIL | Errno::AGAIN => Some(Want::Ports),
            Errno::NOBUFS | Errno::NOMEM => Some(Want::Memory),
            _ => None,
        }
    }
}

/// What a connection that lasts needs: to hear of it when the peer is gone. One that stays within the machine has no congestion to
/// control, and the simplest way of doing that is the cheapest.
fn hold(socket: &SockRef<'_>, address: SocketAddr) -> io::Result<()> {
    if address.ip().is_loopback() {
        let _ = socket.set_tcp_congestion(b"reno"); // where that is not allowed the usual one does as well
    }
    socket.set_tcp_keepalive(&keep_alive())?;
    socket.set_tcp_user_timeout(Some(UNHEARD))
}

/// How long a peer may leave what it was sent unconfirmed.
const UNHEARD: Duration = Duration::from_secs(30);

fn keep_alive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(Duration::from_secs(15))
        .with_interval(Duration::from_secs(10))
        .with_retries(3)
}

thread_local! {
    /// What TLS reads into for whoever brings memory that nothing was ever written to.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; 16 << 10].into());
}

/// For HTTP/2, and for the control plane's questions to hosts.
impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            own @ Stream::Tls(_) => SCRATCH.with_borrow_mut(|scratch| {
                // By way of memory that is in use: what a quiet connection reads into is written to only where something comes.
                let room = scratch.len().min(buffer.remaining());
                let read = own.poll_read(cx, scratch.get_mut(..room).unwrap_or(&mut []));
                read.map_ok(|count| buffer.put_slice(scratch.get(..count).unwrap_or(&[])))
            }),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Stream::poll_write(self.get_mut(), cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Stream::poll_flush(self.get_mut(), cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_end(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[tokio::test(flavor = "current_thread")]
    async fn an_end_is_seen_behind_what_has_not_been_read() {
        let (mut client, server) = std::os::unix::net::UnixStream::pair().unwrap();
        server.set_nonblocking(true).unwrap();
        let server = Stream::attach(Detached::Unix(server)).unwrap();
        client.write_all(b"GET / HTTP/1.1").unwrap();
        assert!(!server.has_ended());
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(server.has_ended());
        assert_eq!(server.queued(), 14);
        drop(client);
        assert!(server.has_ended());
    }
}
