//! sockets: where the program listens — opened, kept over a reload, or taken over from whoever had them before.

use super::{Claim, Stream, bind_unix, hold};
use crate::plan::Listen;
use socket2::{Domain, Protocol, SockAddr, SockFilter, SockRef, Socket, Type};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// Listening sockets of all workers: one for each worker and TCP address, so that the kernel spreads connections.
#[derive(Clone, Debug, Default)]
pub struct Sockets {
    by_address: BTreeMap<Listen, Arc<Group>>,
    /// Those that an earlier reload took out, for as long as some worker still lets in whoever had come before.
    closing: BTreeMap<Listen, Weak<Group>>,
}

/// The sockets of one address.
#[derive(Debug)]
struct Group {
    sockets: Vec<Raw>,
    /// Whether the service manager has them too, so that they go on when this program ends.
    lent: bool,
}

/// Listening sockets that were open before: those of the program whose place this one takes, or the service manager's.
#[derive(Debug, Default)]
pub struct Given(BTreeMap<Listen, Gift>);

#[derive(Debug, Default)]
struct Gift {
    sockets: Vec<OwnedFd>,
    lent: bool,
}

#[derive(Debug)]
enum Raw {
    Tcp(std::net::TcpListener),
    Unix(UnixFile),
}

/// A listening unix socket and its file; none when somebody has taken the file away.
#[derive(Debug)]
struct UnixFile {
    listener: std::os::unix::net::UnixListener,
    claim: Option<Claim>,
}

/// One worker's listener.
#[derive(Debug)]
pub enum Listener {
    /// At a TCP address, with all that listens there, so that it can be used again while it closes.
    Tcp(TcpListener, Closing),
    /// At a unix socket.
    Unix(UnixListener),
}

/// Keeps the sockets of an address for as long as one of them is read.
#[derive(Debug)]
pub struct Closing(#[allow(dead_code)] Arc<Group>);

impl Sockets {
    /// Opens all of `listen`, or none. Those that `kept` has, or that it has begun to close, are shared with it; those that `given`
    /// has are taken from there.
    pub fn open(
        listen: &BTreeSet<Listen>,
        workers: usize,
        kept: Option<&Sockets>,
        given: &mut Given,
    ) -> Result<Sockets, (Listen, io::Error)> {
        let mut by_address = BTreeMap::new();
        let ours = kept.map(Sockets::still_open).unwrap_or_default();
        // All of them before the first is opened: they may overlap each other.
        for address in listen {
            if !ours.keys().chain(given.0.keys()).any(|other| other.overlaps(address)) {
                prove_free(address).map_err(|error| (address.clone(), error))?;
            }
        }
        for address in listen {
            let group = match ours.get(address) {
                Some(group) => Arc::clone(group),
                None => {
                    let gift = given.0.remove(address);
                    let lent = gift.as_ref().is_some_and(|gift| gift.lent);
                    let opened = match gift {
                        Some(gift) => take_over(address, gift.sockets, workers),
                        None => open_all(address, workers),
                    };
                    let sockets = opened.map_err(|error| (address.clone(), error))?;
                    Arc::new(Group { sockets, lent })
                }
            };
            by_address.insert(address.clone(), group);
        }
        let closing = ours.iter().filter(|(address, _)| !by_address.contains_key(*address));
        let closing = closing.map(|(address, group)| (address.clone(), Arc::downgrade(group))).collect();
        Ok(Sockets { by_address, closing })
    }

    /// What it listens at, and what it listened at before and is not closed yet.
    fn still_open(&self) -> BTreeMap<Listen, Arc<Group>> {
        let closing = self.closing.iter().filter_map(|(address, group)| Some((address, group.upgrade()?)));
        let open = self.by_address.iter().map(|(address, group)| (address, Arc::clone(group)));
        closing.chain(open).map(|(address, group)| (address.clone(), group)).collect()
    }

    /// The addresses that are really listened at: port 0 has become a number.
    pub fn addresses(&self) -> Vec<String> {
        self.by_address
            .iter()
            .map(|(listen, group)| match group.sockets.first() {
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

    /// What is listened at, as the plan names it.
    pub fn names(&self) -> impl Iterator<Item = &Listen> {
        self.by_address.keys()
    }

    /// Every socket with its name in the plan, and whether it is lent, to be handed to a successor.
    pub fn descriptors(&self) -> impl Iterator<Item = (&Listen, bool, BorrowedFd<'_>)> {
        self.by_address.iter().flat_map(|(listen, group)| {
            group.sockets.iter().map(move |socket| match socket {
                Raw::Tcp(listener) => (listen, group.lent, listener.as_fd()),
                Raw::Unix(file) => (listen, group.lent, file.listener.as_fd()),
            })
        })
    }

    /// Whether the service manager has the sockets of `listen`, too.
    pub fn is_lent(&self, listen: &Listen) -> bool {
        self.by_address.get(listen).is_some_and(|group| group.lent)
    }

    /// Says whether the files of those unix sockets whose name `fits` are ours to be removed.
    pub fn own_files(&self, ours: bool, fits: impl Fn(&Listen) -> bool) {
        for (listen, group) in &self.by_address {
            for socket in &group.sockets {
                if let Raw::Unix(UnixFile { claim: Some(claim), .. }) = socket
                    && !group.lent
                    && fits(listen)
                {
                    claim.own(ours);
                }
            }
        }
    }

    /// The listeners of worker `index` of `workers` that it does not know yet; to be called on its runtime. When there are more
    /// sockets than workers, some read several: one that nobody reads would lose what the kernel puts into it.
    /// One that cannot be used is left out, which the caller has to report.
    pub fn of_worker(
        &self,
        index: usize,
        workers: usize,
        known: impl Fn(&Listen) -> bool,
    ) -> Vec<(Listen, SocketAddr, Listener)> {
        let new = self.by_address.iter().filter(|(listen, _)| !known(listen));
        new.flat_map(|(listen, group)| {
            share(index, workers, group.sockets.len()).filter_map(|at| {
                let (ours, listener) = group.sockets.get(at)?.open(group).ok()?;
                Some((listen.clone(), ours, listener))
            })
        })
        .collect()
    }
}

/// Which of `count` sockets worker `index` of `workers` reads: each is read by somebody, and everybody reads one.
fn share(index: usize, workers: usize, count: usize) -> impl Iterator<Item = usize> {
    let (first, step) =
        if count > workers { (index, workers.max(1)) } else { (index % count.max(1), count.max(1)) };
    (first..count).step_by(step)
}

impl Given {
    /// Adds a socket that `listen` of the plan means; `lent` when whoever gave it keeps it open as well.
    pub fn add(&mut self, listen: Listen, lent: bool, socket: OwnedFd) {
        let gift = self.0.entry(listen).or_default();
        gift.sockets.push(socket);
        gift.lent = lent;
    }

    /// What nobody has taken.
    pub fn left(&self) -> impl Iterator<Item = &Listen> {
        self.0.keys()
    }
}

/// What a plan would call this socket, if it listens for streams.
pub fn name_of(socket: &OwnedFd) -> Option<Listen> {
    let socket = SockRef::from(socket);
    if socket.r#type().ok()? != Type::STREAM || !socket.is_listener().ok()? {
        return None;
    }
    let address = socket.local_addr().ok()?;
    match address.as_pathname() {
        Some(path) => Some(Listen::Unix(path.to_owned())),
        None => address.as_socket().map(Listen::Tcp),
    }
}

impl Raw {
    fn open(&self, group: &Arc<Group>) -> io::Result<(SocketAddr, Listener)> {
        Ok(match self {
            Raw::Tcp(listener) => {
                // It may have begun to close; there is nothing to detach otherwise, which is an error.
                let _ = SockRef::from(listener).detach_filter();
                let own = TcpListener::from_std(listener.try_clone()?)?;
                (listener.local_addr()?, Listener::Tcp(own, Closing(Arc::clone(group))))
            }
            Raw::Unix(file) => {
                let listener = UnixListener::from_std(file.listener.try_clone()?)?;
                ((Ipv4Addr::LOCALHOST, 0).into(), Listener::Unix(listener))
            }
        })
    }
}

/// Sockets that were open before, all of them whatever the number of workers; further ones where the kernel lets several share the address.
fn take_over(listen: &Listen, given: Vec<OwnedFd>, workers: usize) -> io::Result<Vec<Raw>> {
    let mut sockets = Vec::with_capacity(given.len().max(workers));
    for descriptor in given {
        match listen {
            Listen::Tcp(address) => {
                prepare(&SockRef::from(&descriptor), *address)?;
                sockets.push(Raw::Tcp(descriptor.into()));
            }
            Listen::Unix(path) => {
                let listener = std::os::unix::net::UnixListener::from(descriptor);
                listener.set_nonblocking(true)?;
                sockets.push(Raw::Unix(UnixFile { listener, claim: Claim::of(path).ok() }));
            }
        }
    }
    if let Some(Raw::Tcp(first)) = sockets.first()
        && SockRef::from(first).reuse_port()?
    {
        let address = first.local_addr()?;
        while sockets.len() < workers {
            // The kernel lets one user only share an address; workers that have no socket of their own share those there are.
            let Ok(further) = bind_tcp(address) else { break };
            sockets.push(Raw::Tcp(further));
        }
    }
    Ok(sockets)
}

/// Opens `listen` anew.
fn open_all(listen: &Listen, workers: usize) -> io::Result<Vec<Raw>> {
    match listen {
        Listen::Unix(path) => {
            let (listener, claim) = bind_unix(path, 0o777)?;
            Ok(vec![Raw::Unix(UnixFile { listener, claim: Some(claim) })])
        }
        Listen::Tcp(address) => {
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
    prepare(&SockRef::from(&socket), address)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// Accepted sockets inherit these, so no connection pays for setting them.
fn prepare(socket: &SockRef<'_>, address: SocketAddr) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    // What a client does not take waits with us, where it is bounded, and not in the kernel, up to megabytes for each.
    socket.set_tcp_notsent_lowat(UNSENT_BYTES)?;
    hold(socket, address)
}

/// SO_REUSEPORT would let a second program of the same user share the address unseen; a socket without it may not. A listener of our
/// own that an earlier reload has closed is there for a moment longer.
fn prove_free(listen: &Listen) -> io::Result<()> {
    let Listen::Tcp(address) = *listen else { return Ok(()) };
    for again in (0..CLOSING_LOOKS).rev() {
        match tcp_socket(address).and_then(|socket| socket.bind(&SockAddr::from(address))) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && again == 0 => return Err(error),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                std::thread::park_timeout(CLOSING_PAUSE)
            }
            _ => break, // any other trouble is told by the socket that is wanted
        }
    }
    Ok(())
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
        // Tokio takes them for readable: they would be read once in vain, with the memory of an exchange. Hardly any client has spoken
        // when it is accepted, and an event comes in any case.
        let nothing_yet = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        match self {
            Listener::Tcp(listener, _) => listener.poll_accept(cx).map_ok(|(stream, client)| {
                _ = stream.try_io(Interest::READABLE, nothing_yet);
                (Stream::Tcp(stream), client)
            }),
            Listener::Unix(listener) => listener.poll_accept(cx).map_ok(|(stream, _)| {
                _ = stream.try_io(Interest::READABLE, nothing_yet);
                (Stream::Unix(stream), (Ipv4Addr::LOCALHOST, 0).into())
            }),
        }
    }

    /// Accepts a connection that is in the kernel's queue now, whether an event has told of it or not.
    pub fn accept_now(&self) -> io::Result<(Stream, SocketAddr)> {
        let (socket, client) = match self {
            Listener::Tcp(listener, _) => SockRef::from(listener).accept()?,
            Listener::Unix(listener) => SockRef::from(listener).accept()?,
        };
        socket.set_nonblocking(true)?;
        let client = client.as_socket().unwrap_or((Ipv4Addr::LOCALHOST, 0).into());
        let stream = match self {
            Listener::Tcp(..) => Stream::Tcp(TcpStream::from_std(socket.into())?),
            Listener::Unix(_) => Stream::Unix(UnixStream::from_std(socket.into())?),
        };
        Ok((stream, client))
    }

    /// Lets the kernel drop attempts to connect from now on, so that whoever has got a connection already can be let in before the
    /// listener closes, and nobody gets one in between: a client repeats its attempt a second later. Only for one that will be closed.
    pub fn turn_away(&self) {
        /// A classic BPF program over the TCP header: a SYN without an ACK is dropped, the rest passes.
        const NO_SYN: [SockFilter; 5] = [
            SockFilter::new(0x30, 0, 0, 13),          // A = flags
            SockFilter::new(0x54, 0, 0, 0x12),        // A &= SYN | ACK
            SockFilter::new(0x15, 0, 1, 0x02),        // if A == SYN
            SockFilter::new(0x06, 0, 0, 0),           //   drop
            SockFilter::new(0x06, 0, 0, 0xffff_ffff), // else pass
        ];
        if let Listener::Tcp(listener, _) = self {
            // Without it a connection made in the last moment is reset, as with any listener that closes.
            let _ = SockRef::from(listener).attach_filter(&NO_SYN);
        }
    }
}

/// How much the kernel takes from us that it cannot send yet.
const UNSENT_BYTES: u32 = 128 << 10;
/// How often, and after which pauses, an address that is taken is tried.
const CLOSING_LOOKS: u32 = 15;
const CLOSING_PAUSE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_socket_is_read_and_every_worker_reads() {
        for workers in 1..6usize {
            for count in 1..6usize {
                let shares: Vec<Vec<usize>> =
                    (0..workers).map(|index| share(index, workers, count).collect()).collect();
                assert!(shares.iter().all(|share| !share.is_empty()), "{workers} {count}");
                assert!(
                    (0..count).all(|at| shares.iter().any(|share| share.contains(&at))),
                    "{workers} {count}"
                );
                let reads: usize = shares.iter().map(Vec::len).sum();
                assert_eq!(reads, workers.max(count));
            }
        }
    }

    #[test]
    fn what_closes_is_used_again_and_what_overlaps_is_no_stranger() {
        let open = |listen: &[SocketAddr], kept: Option<&Sockets>| {
            let listen = listen.iter().copied().map(Listen::Tcp).collect();
            Sockets::open(&listen, 2, kept, &mut Given::default())
        };
        let port = open_tcp("127.0.0.1:0".parse().unwrap()).unwrap().local_addr().unwrap().port();
        let any: SocketAddr = (Ipv4Addr::UNSPECIFIED, port).into();
        let one: SocketAddr = (Ipv4Addr::LOCALHOST, port).into();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let _inside = runtime.enter();

        let first = open(&[any], None).unwrap();
        let closing = first.of_worker(0, 2, |_| false);
        closing.iter().for_each(|(_, _, listener)| listener.turn_away());
        let none = open(&[], Some(&first)).unwrap();
        drop(first);
        assert!(open(&[one], None).is_err(), "to anybody else it is taken");
        let both = open(&[any, one], Some(&none)).unwrap();
        drop((none, closing));
        let again = both.of_worker(0, 2, |listen| *listen == Listen::Tcp(one));
        assert_eq!(again.len(), 1);
        std::net::TcpStream::connect_timeout(&one, Duration::from_millis(500)).unwrap();
        let later = open(&[one], Some(&both)).unwrap();
        drop((both, again));
        assert_eq!((later.still_open().len(), later.descriptors().count()), (1, 2));
    }

    #[test]
    fn addresses_of_one_port_each_have_their_own_connections() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let _inside = runtime.enter();
        let port = open_tcp("127.0.0.1:0".parse().unwrap()).unwrap().local_addr().unwrap().port();
        let at = |ip: &str| Listen::Tcp(SocketAddr::new(ip.parse().unwrap(), port));
        let (any, any4, one) = (at("::"), at("0.0.0.0"), at("127.0.0.1"));
        let listen = BTreeSet::from([any.clone(), any4.clone(), one.clone()]);
        let sockets = Sockets::open(&listen, 1, None, &mut Given::default()).unwrap();
        let listeners = sockets.of_worker(0, 1, |_| false);
        for (to, whose) in [("127.0.0.1", &one), ("127.0.0.2", &any4), ("::1", &any)] {
            let Ok(_client) = std::net::TcpStream::connect((to, port)) else {
                assert!(to == "::1", "only IPv6 may be missing");
                continue;
            };
            let taken = listeners.iter().filter(|(_, _, listener)| listener.accept_now().is_ok());
            assert_eq!(taken.map(|(listen, ..)| listen).collect::<Vec<_>>(), [whose], "{to}");
        }
        // Nobody else gets one of them, and a reload may add one.
        assert!(Sockets::open(&BTreeSet::from([at("127.0.0.3")]), 1, None, &mut Given::default()).is_err());
        let more = BTreeSet::from([any, at("127.0.0.3")]);
        Sockets::open(&more, 1, Some(&sockets), &mut Given::default()).unwrap();
    }

    #[test]
    fn given_sockets_are_used_for_their_name_only_and_supplemented() {
        let first = open_tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let stranger = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut given = Given::default();
        for socket in [OwnedFd::from(first), OwnedFd::from(stranger)] {
            given.add(name_of(&socket).unwrap(), true, socket);
        }
        let listen = BTreeSet::from([Listen::Tcp(address)]);
        let sockets = Sockets::open(&listen, 3, None, &mut given).unwrap();
        assert_eq!(sockets.descriptors().count(), 3);
        assert_eq!(sockets.addresses(), [address.to_string()]);
        assert_eq!(given.left().count(), 1);
        let stream = std::net::TcpStream::connect(address).unwrap();
        assert_eq!(name_of(&stream.into()), None);
    }
}
