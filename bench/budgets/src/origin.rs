//! origin: a server that answers every request with the same hundred bytes and keeps its connections.

use crate::heap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\n\
    ....................................................................................................";

/// A running origin. It ends with the test's process.
pub struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    connections: Arc<AtomicU64>,
}

impl Origin {
    /// Starts one, with a thread for each connection.
    pub fn start() -> std::io::Result<Origin> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let connections = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&connections);
        std::thread::spawn(move || {
            heap::excuse_this_thread();
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Relaxed);
                std::thread::spawn(move || {
                    heap::excuse_this_thread();
                    // the proxy may close at any time; that is how a connection ends
                    _ = answer(stream);
                });
            }
        });
        Ok(Origin { address, connections })
    }

    /// How many connections it has been asked for.
    pub fn connections(&self) -> u64 {
        self.connections.load(Relaxed)
    }
}

/// Answers each head that comes; requests have no bodies here.
fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; 4096];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..])?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        if buffer[..filled].ends_with(b"\r\n\r\n") {
            stream.write_all(ANSWER)?;
            filled = 0;
        }
    }
}
