//! exchange: one request of the load on one connection, from the choice of the connection to the judgement of the answer.

use crate::body::{self, Judgement};
use crate::ledger::{Class, End};
use crate::load::{Shared, lock};
use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::ReadHalf;
use tokio::time::{Instant, timeout_at};

/// A kept connection to the proxy.
pub struct Connection {
    stream: TcpStream,
    /// What was read and not yet taken.
    buffer: Vec<u8>,
    /// How many of the load there are.
    open: Arc<AtomicUsize>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Relaxed);
    }
}

/// Sends the request with this number and says how it ended.
pub async fn ask(shared: &Shared, number: u64, class: Class, end: Instant) -> End {
    match timeout_at(end, try_ask(shared, number, class)).await {
        Ok(end) => end,
        Err(_) => End::Timeout,
    }
}

async fn try_ask(shared: &Shared, number: u64, class: Class) -> End {
    let permit = match shared.plan.waits {
        true => shared.permits.acquire().await.ok(),
        false => shared.permits.try_acquire().ok(),
    };
    let Some(_permit) = permit else { return End::Unsent };
    let Some(mut connection) = connection(shared).await else { return End::Refused };
    let id = shared.id(number);
    let bytes = request(shared, &id, number, class);
    let (sent, answer) = both(&mut connection, &bytes).await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(end) => return end,
    };
    if !connection.buffer.is_empty() {
        shared.ledger().stray += 1;
    } else if sent && answer.keep_alive && shared.plan.keep_alive {
        lock(&shared.idle).push_back(connection);
    }
    judge(&answer, &id)
}

/// Sends and reads at once, for an answer may come before the request has left: whether all was sent, and the answer.
async fn both(connection: &mut Connection, bytes: &[u8]) -> (bool, Result<Answer, End>) {
    let (reader, mut writer) = connection.stream.split();
    let mut sending = pin!(writer.write_all(bytes));
    let mut reading = pin!(answer(reader, &mut connection.buffer));
    let mut sent = None;
    loop {
        tokio::select! {
            biased;
            result = &mut sending, if sent.is_none() => sent = Some(result.is_ok()),
            answer = &mut reading => return (sent == Some(true), answer),
        }
    }
}

fn judge(answer: &Answer, id: &str) -> End {
    match (answer.status, answer.by_origin) {
        (200, true) => match body::judge(&answer.body, id) {
            Judgement::Right => End::Right,
            Judgement::Changed => End::Checksum,
            Judgement::Strange => End::Stranger,
        },
        (status, true) => End::Passed(status),
        (status, false) => End::Proxy(status),
    }
}

/// A new connection until there are as many as asked for, then the one that has waited longest; a new one when all are busy.
async fn connection(shared: &Shared) -> Option<Connection> {
    while shared.open.load(Relaxed) >= shared.plan.connections {
        let Some(connection) = lock(&shared.idle).pop_front() else { break };
        let mut byte = [0];
        match connection.stream.try_read(&mut byte) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(connection),
            Ok(1..) => shared.ledger().stray += 1,
            _ => shared.ledger().closed += 1,
        }
    }
    let stream = TcpStream::connect(shared.plan.address).await.ok()?;
    let _ = stream.set_nodelay(true);
    shared.ledger().opened += 1;
    shared.open.fetch_add(1, Relaxed);
    Some(Connection { stream, buffer: Vec::new(), open: shared.open.clone() })
}

fn request(shared: &Shared, id: &str, number: u64, class: Class) -> Vec<u8> {
    let (prefix, host, query) = (&shared.plan.prefix, &shared.plan.host, (shared.plan.query)(number));
    let close = if shared.plan.keep_alive { "" } else { "Connection: close\r\n" };
    let path = class.word();
    let get = |bytes: usize| {
        format!("GET {prefix}/{path}?id={id}&bytes={bytes}{query} HTTP/1.1\r\nHost: {host}\r\n{close}\r\n")
            .into_bytes()
    };
    let post = |bytes: usize| {
        let body = body::make(id, "client", bytes);
        let mut request = format!(
            "POST {prefix}/{path}?id={id}&bytes=200{query} HTTP/1.1\r\nHost: {host}\r\n{close}Content-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(&body);
        request
    };
    match class {
        Class::Get => get(1 << 10),
        Class::Large => get(256 << 10),
        Class::Post => post(4 << 10),
        Class::Upload => post(1 << 20),
    }
}

struct Answer {
    status: u16,
    by_origin: bool,
    keep_alive: bool,
    body: Vec<u8>,
}

async fn answer(mut stream: ReadHalf<'_>, buffer: &mut Vec<u8>) -> Result<Answer, End> {
    loop {
        let head = loop {
            if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let rest = buffer.split_off(at + 4);
                break std::mem::replace(buffer, rest);
            }
            let began = !buffer.is_empty();
            if !fill(&mut stream, buffer).await {
                return Err(if began { End::Truncated } else { End::Reset });
            }
        };
        let head = String::from_utf8_lossy(&head).into_owned();
        let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse::<u16>().ok());
        let status = status.ok_or(End::Malformed)?;
        if status < 200 {
            continue;
        }
        let mut answer = Answer { status, by_origin: false, keep_alive: true, body: Vec::new() };
        let (mut length, mut chunked) = (None, false);
        for (name, value) in head.lines().skip(1).filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "x-origin" => answer.by_origin = true,
                "connection" => answer.keep_alive = !value.eq_ignore_ascii_case("close"),
                "content-length" => length = Some(value.parse::<usize>().map_err(|_| End::Malformed)?),
                "transfer-encoding" => chunked = true,
                _ => {}
            }
        }
        answer.body = match length {
            Some(length) => exactly(&mut stream, buffer, length).await.ok_or(End::Truncated)?,
            None if chunked => chunks(&mut stream, buffer).await?,
            None => {
                answer.keep_alive = false;
                while fill(&mut stream, buffer).await {}
                std::mem::take(buffer)
            }
        };
        return Ok(answer);
    }
}

async fn chunks(stream: &mut ReadHalf<'_>, buffer: &mut Vec<u8>) -> Result<Vec<u8>, End> {
    let mut body = Vec::new();
    loop {
        let at = loop {
            if let Some(at) = buffer.windows(2).position(|window| window == b"\r\n") {
                break at;
            }
            if !fill(stream, buffer).await {
                return Err(End::Truncated);
            }
        };
        let line = exactly(stream, buffer, at + 2).await.ok_or(End::Truncated)?;
        let text = String::from_utf8_lossy(&line[..at]).into_owned();
        let size = usize::from_str_radix(&text, 16).map_err(|_| End::Malformed)?;
        let mut data = exactly(stream, buffer, size + 2).await.ok_or(End::Truncated)?;
        if !data.ends_with(b"\r\n") {
            return Err(End::Malformed);
        }
        if size == 0 {
            return Ok(body);
        }
        data.truncate(size);
        body.append(&mut data);
    }
}

async fn exactly(stream: &mut ReadHalf<'_>, buffer: &mut Vec<u8>, count: usize) -> Option<Vec<u8>> {
    while buffer.len() < count {
        if !fill(stream, buffer).await {
            return None;
        }
    }
    let rest = buffer.split_off(count);
    Some(std::mem::replace(buffer, rest))
}

/// Reads what is there; false at the end.
async fn fill(stream: &mut ReadHalf<'_>, buffer: &mut Vec<u8>) -> bool {
    buffer.reserve(16 << 10);
    matches!(stream.read_buf(buffer).await, Ok(1..))
}
