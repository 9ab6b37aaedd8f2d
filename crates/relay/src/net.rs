//! Every call to the operating system's network: streams, listeners, connecting.

use crate::plan::Listen;
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// A connected stream of bytes.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a unix socket.
    Unix(UnixStream),
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
    /// Reads into `buffer`. Fewer bytes than it holds mean that there are no more now: no further call is needed to learn that.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut into = ReadBuf::new(buffer);
        let read = match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, &mut into),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, &mut into),
        };
        read.map_ok(|()| into.filled().len())
    }

    /// Writes some of `bytes`. There is nearly always room, so that is tried before anybody asks to be woken, and
    /// before any event has told of it: a new connection need not be waited for once more.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // SIGPIPE is ignored in every Rust program.
        let tried = match self {
            Stream::Tcp(stream) => SockRef::from(&*stream).send(bytes),
            Stream::Unix(stream) => SockRef::from(&*stream).send(bytes),
        };
        match tried {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return Poll::Ready(done),
        }
        match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
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
        }
    }

    /// Ends our half.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    /// Whether a read would find something: data, an end or an error. Asks the kernel nothing.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(stream) => stream.poll_read_ready(cx),
            Stream::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    /// What stands at the front. Asks the kernel only when an event said that there may be something.
    pub fn front(&self) -> Front {
        let mut byte = [MaybeUninit::uninit()];
        let seen = match self {
            Stream::Tcp(stream) => {
                stream.try_io(Interest::READABLE, || SockRef::from(stream).peek(&mut byte))
            }
            Stream::Unix(stream) => {
                stream.try_io(Interest::READABLE, || SockRef::from(stream).peek(&mut byte))
            }
        };
        front_of(seen)
    }

    /// What stands at the front. Asks the kernel even when no event said so: for requests that must not meet a dead connection.
    pub fn front_now(&self) -> Front {
        let mut byte = [MaybeUninit::uninit()];
        front_of(match self {
            Stream::Tcp(stream) => SockRef::from(stream).peek(&mut byte),
            Stream::Unix(stream) => SockRef::from(stream).peek(&mut byte),
        })
    }

    /// Makes the kernel reset the connection when it is dropped, so that the peer sees that something was cut off.
    pub fn reset_on_drop(&self) {
        let linger = Some(Duration::ZERO);
        // When it cannot be set the peer still sees a close, only a gentler one.
        let _ = match self {
            Stream::Tcp(stream) => SockRef::from(stream).set_linger(linger),
            Stream::Unix(_) => Ok(()),
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
        socket.set_tcp_keepalive(&keep_alive())?;
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

/// Connects to a unix socket.
pub async fn connect_unix(path: &Path) -> io::Result<Stream> {
    Ok(Stream::Unix(UnixStream::connect(path).await?))
}

fn keep_alive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(Duration::from_secs(15))
        .with_interval(Duration::from_secs(10))
        .with_retries(3)
}

/// Listening sockets of all workers: one for each worker and TCP address, so that the kernel spreads connections.
#[derive(Clone, Debug, Default)]
pub struct Sockets {
    by_address: BTreeMap<Listen, Arc<Vec<Raw>>>,
}

#[derive(Debug)]
enum Raw {
    Tcp(std::net::TcpListener),
    Unix(UnixFile),
}

/// A listening unix socket; its file is removed when it is dropped.
#[derive(Debug)]
struct UnixFile {
    listener: std::os::unix::net::UnixListener,
    path: std::path::PathBuf,
}

impl Drop for UnixFile {
    fn drop(&mut self) {
        // Nothing can be done about a file that cannot be removed, and the next start removes it.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// One worker's listener.
#[derive(Debug)]
pub enum Listener {
    /// At a TCP address.
    Tcp(TcpListener),
    /// At a unix socket.
    Unix(UnixListener),
}

impl Sockets {
    /// Opens all of `listen`, or none. Those that `kept` has are shared with it.
    pub fn open(
        listen: &BTreeSet<Listen>,
        workers: usize,
        kept: Option<&Sockets>,
    ) -> Result<Sockets, (Listen, io::Error)> {
        let mut by_address = BTreeMap::new();
        for address in listen {
            let sockets = match kept.and_then(|kept| kept.by_address.get(address)) {
                Some(sockets) => Arc::clone(sockets),
                None => Arc::new(open_all(address, workers).map_err(|error| (address.clone(), error))?),
            };
            by_address.insert(address.clone(), sockets);
        }
        Ok(Sockets { by_address })
    }

    /// The addresses that are really listened at: port 0 has become a number.
    pub fn addresses(&self) -> Vec<String> {
        self.by_address
            .iter()
            .map(|(listen, sockets)| match sockets.first() {
                Some(Raw::Tcp(listener)) => {
                    listener.local_addr().map_or_else(|_| listen.to_string(), |a| a.to_string())
                }
                _ => listen.to_string(),
            })
            .collect()
    }

    /// Whether `listen` is among them.
    pub fn has(&self, listen: &Listen) -> bool {
        self.by_address.contains_key(listen)
    }

    /// The listeners of worker `index` that it does not know yet; to be called on its runtime. One that cannot be
    /// used is left out: the kernel then gives its connections to nobody else, which the caller has to report.
    pub fn of_worker(
        &self,
        index: usize,
        known: impl Fn(&Listen) -> bool,
    ) -> Vec<(Listen, SocketAddr, Listener)> {
        let new = self.by_address.iter().filter(|(listen, _)| !known(listen));
        new.filter_map(|(listen, sockets)| {
            let raw = sockets.get(index % sockets.len().max(1))?;
            let (ours, listener) = raw.open().ok()?;
            Some((listen.clone(), ours, listener))
        })
        .collect()
    }
}

impl Raw {
    fn open(&self) -> io::Result<(SocketAddr, Listener)> {
        Ok(match self {
            Raw::Tcp(listener) => {
                (listener.local_addr()?, Listener::Tcp(TcpListener::from_std(listener.try_clone()?)?))
            }
            Raw::Unix(file) => {
                let listener = UnixListener::from_std(file.listener.try_clone()?)?;
                ((Ipv4Addr::LOCALHOST, 0).into(), Listener::Unix(listener))
            }
        })
    }
}

fn open_all(listen: &Listen, workers: usize) -> io::Result<Vec<Raw>> {
    match listen {
        Listen::Unix(path) => {
            let listener = open_unix(path)?;
            listener.set_nonblocking(true)?;
            Ok(vec![Raw::Unix(UnixFile { listener, path: path.clone() })])
        }
        Listen::Tcp(address) => {
            prove_free(*address)?;
            let first = open_tcp(*address)?;
            // The first one decides the port when the plan says 0.
            let address = first.local_addr()?;
            let mut sockets = vec![Raw::Tcp(first)];
            for _ in 1..workers {
                sockets.push(Raw::Tcp(open_tcp(address)?));
            }
            Ok(sockets)
        }
    }
}

fn open_unix(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    use std::os::unix::net::{UnixListener, UnixStream};
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && UnixStream::connect(path).is_err() => {
            std::fs::remove_file(path)?; // left behind by a process that is gone
            UnixListener::bind(path)
        }
        done => done,
    }
}

fn open_tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    match bind_tcp(address) {
        // A machine without IPv6: "any address" then means any IPv4 address.
        Err(error)
            if address.is_ipv6()
                && address.ip().is_unspecified()
                && error.kind() != io::ErrorKind::AddrInUse =>
        {
            bind_tcp((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        done => done,
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = tcp_socket(address)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit these, so no connection pays for setting them.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keep_alive())?;
    socket.set_tcp_user_timeout(Some(Duration::from_secs(30)))?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// SO_REUSEPORT would let a second program of the same user share the address unseen; a socket without it may not.
fn prove_free(address: SocketAddr) -> io::Result<()> {
    match tcp_socket(address).and_then(|socket| socket.bind(&SockAddr::from(address))) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        _ => Ok(()), // any other trouble is told by the socket that is wanted
    }
}

fn tcp_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    Ok(socket)
}

impl Listener {
    /// Accepts one connection and says who is at its other end.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, SocketAddr)>> {
        match self {
            Listener::Tcp(listener) => {
                listener.poll_accept(cx).map_ok(|(stream, client)| (Stream::Tcp(stream), client))
            }
            Listener::Unix(listener) => listener
                .poll_accept(cx)
                .map_ok(|(stream, _)| (Stream::Unix(stream), (Ipv4Addr::LOCALHOST, 0).into())),
        }
    }

    /// Accepts a connection that is in the kernel's queue now, whether an event has told of it or not.
    pub fn accept_now(&self) -> io::Result<(Stream, SocketAddr)> {
        let (socket, client) = match self {
            Listener::Tcp(listener) => SockRef::from(listener).accept()?,
            Listener::Unix(listener) => SockRef::from(listener).accept()?,
        };
        socket.set_nonblocking(true)?;
        let client = client.as_socket().unwrap_or((Ipv4Addr::LOCALHOST, 0).into());
        let stream = match self {
            Listener::Tcp(_) => Stream::Tcp(TcpStream::from_std(socket.into())?),
            Listener::Unix(_) => Stream::Unix(UnixStream::from_std(socket.into())?),
        };
        Ok((stream, client))
    }
}
