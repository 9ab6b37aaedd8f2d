//! client: many connections that each ask, wait for the answer and ask again.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// Connections to the proxy, and one buffer for all of them.
pub struct Client {
    address: SocketAddr,
    streams: Vec<TcpStream>,
    buffer: Vec<u8>,
}

impl Client {
    /// A client without connections.
    pub fn new(address: SocketAddr) -> Client {
        Client { address, streams: Vec::new(), buffer: vec![0; 16 << 10] }
    }

    /// Opens `count` more connections.
    pub fn connect(&mut self, count: usize) -> io::Result<()> {
        for _ in 0..count {
            let stream = TcpStream::connect(self.address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(std::time::Duration::from_secs(10)))?;
            self.streams.push(stream);
        }
        Ok(())
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.streams.len()
    }

    /// Asks for `/` once on each connection, all at a time, `rounds` times; gives back how many requests that were.
    pub fn ask_on_all(&mut self, rounds: usize) -> io::Result<u64> {
        for _ in 0..rounds {
            for stream in &mut self.streams {
                stream.write_all(
                    b"GET / HTTP/1.1\r\nHost: budget.example\r\nUser-Agent: budget\r\nAccept: */*\r\n\r\n",
                )?;
            }
            for stream in &mut self.streams {
                read_answer(stream, &mut self.buffer)?;
            }
        }
        Ok((rounds * self.streams.len()) as u64)
    }

    /// The same, one connection after the other.
    pub fn ask_on_each(&mut self) -> io::Result<()> {
        for stream in &mut self.streams {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: budget.example\r\n\r\n")?;
            read_answer(stream, &mut self.buffer)?;
        }
        Ok(())
    }
}

/// Reads one answer with a `Content-Length`, in place; anything but 200 is an error.
fn read_answer(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    loop {
        let read = stream.read(buffer.get_mut(filled..).unwrap_or_default())?;
        filled += read;
        let so_far = &buffer[..filled];
        if read == 0 || !so_far.starts_with(&b"HTTP/1.1 200"[..filled.min(12)]) {
            return Err(io::Error::other(format!("not an answer: {}", String::from_utf8_lossy(so_far))));
        }
        if let Some(head) = so_far.windows(4).position(|window| window == b"\r\n\r\n")
            && filled >= head + 4 + body_length(&so_far[..head])
        {
            return Ok(());
        }
    }
}

fn body_length(head: &[u8]) -> usize {
    const NAME: &[u8] = b"content-length:";
    let at = head.windows(NAME.len()).position(|window| window.eq_ignore_ascii_case(NAME));
    let digits = head.iter().skip(at.map_or(head.len(), |at| at + NAME.len()));
    let digits = digits.skip_while(|byte| **byte == b' ').take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, byte| number * 10 + usize::from(byte - b'0'))
}
