//! server: one of the demo's three servers — just enough HTTP/1.1 to stand behind a strict proxy.

use super::websocket;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A server that runs.
#[derive(Clone, Debug)]
pub struct Server {
    /// What it calls itself.
    pub name: &'static str,
    /// Where it is.
    pub address: SocketAddr,
}

/// Starts a server for each name on a thread of their own; the last one fails on `/flaky`.
pub fn start(names: &[&'static str]) -> io::Result<Vec<Server>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut servers = Vec::new();
    for (at, &name) in names.iter().enumerate() {
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        servers.push(Server { name, address: listener.local_addr()? });
        runtime.spawn(serve(listener, name, at + 1 == names.len()));
    }
    let forever = move || runtime.block_on(std::future::pending::<()>());
    std::thread::Builder::new().name("demo-servers".into()).spawn(forever)?;
    Ok(servers)
}

async fn serve(listener: TcpListener, name: &'static str, fails: bool) {
    loop {
        match listener.accept().await {
            // A connection that ends in an error has ended all the same.
            Ok((stream, _)) => drop(tokio::spawn(connection(stream, name, fails))),
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    }
}

async fn connection(mut stream: TcpStream, name: &'static str, fails: bool) -> io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(head) = read_head(&mut stream, &mut buffer).await? {
        if fails && head.path.starts_with("/flaky") {
            return Ok(());
        }
        if let Some(key) = head.websocket_key {
            return websocket::echo(stream, &key, &head.path, name, buffer).await;
        }
        if head.chunked || !discard(&mut stream, &mut buffer, head.length).await? {
            return Ok(());
        }
        let body = format!("hello from {name}: {} {}\n", head.method, head.path);
        let mut answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        if head.method != "HEAD" {
            answer.push_str(&body);
        }
        stream.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}

/// What the demo needs of a request.
struct Head {
    method: String,
    path: String,
    length: usize,
    chunked: bool,
    websocket_key: Option<String>,
}

/// Reads up to the end of the next head; what came after it stays in `buffer`.
async fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Head>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head: Vec<u8> = buffer.drain(..end + 4).collect();
            return Ok(parse(&String::from_utf8_lossy(&head)));
        }
        if buffer.len() > HEAD_BYTES_MAX || stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

fn parse(head: &str) -> Option<Head> {
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut found = Head { method, path, length: 0, chunked: false, websocket_key: None };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => found.length = value.parse().ok()?,
            "transfer-encoding" => found.chunked = true,
            "sec-websocket-key" => found.websocket_key = Some(value.to_owned()),
            _ => {}
        }
    }
    Some(found)
}

/// Reads a body and forgets it; `false` when the client left before its end.
async fn discard(stream: &mut TcpStream, buffer: &mut Vec<u8>, mut length: usize) -> io::Result<bool> {
    loop {
        let here = length.min(buffer.len());
        buffer.drain(..here);
        length -= here;
        if length == 0 {
            return Ok(true);
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(false);
        }
    }
}

const HEAD_BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn it_answers_and_the_last_one_fails_where_it_shall() {
        let servers = start(&["one", "two"]).unwrap();
        let ask = |at: usize, text: &str| {
            let mut stream = std::net::TcpStream::connect(servers[at].address).unwrap();
            stream.write_all(text.as_bytes()).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        };
        let post = "POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.1\r\n\r\n";
        let answer = ask(0, post);
        assert!(answer.contains("hello from one: POST /a\n") && answer.ends_with("hello from one: GET /b\n"));
        assert!(ask(0, "GET /flaky HTTP/1.1\r\n\r\n").contains("one"));
        assert_eq!(ask(1, "GET /flaky HTTP/1.1\r\n\r\n"), "");
    }
}
