//! floor: a relay that reads, and writes what it has read, with no look at it: what a request costs any proxy that goes through the kernel's sockets.
//!
//! `floor PORT ORIGIN-PORT`, both on 127.0.0.1. Each client has an upstream connection of its own; messages are small, and whoever takes none
//! loses it, so it is of no use but to be measured beside others.

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

/// What stands for the listener among the numbers of streams.
const LISTENER: u64 = 0;
/// What is read at once.
const ROOM: usize = 16 << 10;
/// How many events are taken at once.
const EVENTS: usize = 256;

/// One side of a pair; its number is that of its event.
struct Side {
    stream: TcpStream,
    other: u64,
}

struct Relay {
    epoll: OwnedFd,
    listener: TcpListener,
    origin: u16,
    sides: HashMap<u64, Side>,
    next: u64,
}

fn main() -> io::Result<()> {
    let mut ports = std::env::args().skip(1).map(|port| port.parse::<u16>().map_err(io::Error::other));
    let mut port = || ports.next().unwrap_or_else(|| Err(io::Error::other("usage: floor PORT ORIGIN-PORT")));
    Relay::new(port()?, port()?)?.run()
}

impl Relay {
    fn new(port: u16, origin: u16) -> io::Result<Relay> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
        Ok(Relay { epoll, listener, origin, sides: HashMap::new(), next: LISTENER + 1 })
    }

    fn run(&mut self) -> io::Result<()> {
        let mut room = vec![0; ROOM];
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                match event.data.u64() {
                    LISTENER => self.accept()?,
                    number => self.relay(number, &mut room),
                }
            }
        }
    }

    /// Takes all that wait.
    fn accept(&mut self) -> io::Result<()> {
        loop {
            let client = match self.listener.accept() {
                Ok((client, _)) => client,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => continue,
            };
            // One that finds no origin is closed.
            if let Ok(upstream) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.origin)) {
                let number = self.next;
                self.next += 2;
                self.add(number, number + 1, client)?;
                self.add(number + 1, number, upstream)?;
            }
        }
    }

    fn add(&mut self, number: u64, other: u64, stream: TcpStream) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        epoll::add(&self.epoll, &stream, epoll::EventData::new_u64(number), flags)?;
        self.sides.insert(number, Side { stream, other });
        Ok(())
    }

    /// One read and one write; an end of one side ends both.
    fn relay(&mut self, number: u64, room: &mut [u8]) {
        let Some(from) = self.sides.get(&number) else { return };
        let Some(to) = self.sides.get(&from.other) else { return };
        match recv(&from.stream, &mut *room, RecvFlags::empty()) {
            Ok((count @ 1.., _)) => {
                let _ = send(&to.stream, room.get(..count).unwrap_or(&[]), SendFlags::NOSIGNAL);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(_) | Err(_) => {
                let other = from.other;
                self.sides.remove(&number);
                self.sides.remove(&other);
            }
        }
    }
}
