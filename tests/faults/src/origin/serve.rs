//! serve: the program of an origin — answers what it is asked as its manners say, and writes down every request it sees.

use super::fault::{Fault, Manner};
use super::heads;
use crate::body::{self, Judgement};
use socket2::{Domain, SockRef, Socket, Type};
use std::fs::File;
use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

struct Origin {
    name: String,
    manner: Mutex<Manner>,
    /// Who may be worked on, and how long that takes.
    desk: Option<(Semaphore, Duration)>,
    /// One line for each request, written at once: it survives `kill -9`.
    record: File,
    chance: AtomicU64,
    /// The last answer of many megabytes: making one for each who asks would keep all others waiting.
    huge: Mutex<Option<(String, Arc<Vec<u8>>)>>,
}

/// Runs until its input ends: `origin NAME ADDRESS MANNER RECORD`; each line of its input is new manners.
pub fn main(words: &[String]) {
    let [name, address, manner, record] = words else { panic!("origin NAME ADDRESS MANNER RECORD") };
    let address: SocketAddr = address.parse().expect("an address");
    let record = File::options().create(true).append(true).open(record).expect("the record");
    let manner = Manner::read(manner).expect("manners");
    let origin = Arc::new(Origin {
        name: name.clone(),
        manner: Mutex::new(manner),
        desk: manner.busy.map(|(at_a_time, time)| (Semaphore::new(at_a_time), time)),
        record,
        chance: AtomicU64::new(0x9e37_79b9_7f4a_7c15),
        huge: Mutex::default(),
    });
    let listener = listen(address);
    let of_thread = origin.clone();
    std::thread::spawn(move || obey(&of_thread));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(accept(origin, listener));
}

/// Bound beside the one who keeps the port for us.
/// What waits in the kernel for one connection. Without a bound that is megabytes, and where many answers are not taken, to copy them there
/// is all that an origin does for seconds.
const SEND_BUFFER: usize = 128 << 10;

fn listen(address: SocketAddr) -> std::net::TcpListener {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("SO_REUSEADDR");
    socket.set_reuse_port(true).expect("SO_REUSEPORT");
    socket.set_nonblocking(true).expect("non-blocking");
    socket.set_send_buffer_size(SEND_BUFFER).expect("SO_SNDBUF");
    socket.bind(&address.into()).expect("the port");
    socket.listen(1024).expect("to listen");
    socket.into()
}

fn obey(origin: &Origin) {
    println!("ok");
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let manner = Manner::read(line.trim()).expect("manners");
        *origin.manner.lock().expect("the manners") = manner;
        println!("ok");
    }
    std::process::exit(0);
}

async fn accept(origin: Arc<Origin>, listener: std::net::TcpListener) {
    let listener = TcpListener::from_std(listener).expect("a listener");
    loop {
        // Out of descriptors, for example: those that are open go on, and so do we.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        tokio::spawn(connection(origin.clone(), stream));
    }
}

async fn connection(origin: Arc<Origin>, mut stream: TcpStream) {
    let mut buffer = Vec::new();
    loop {
        let idle = origin.manner.lock().map_or(None, |manner| manner.idle);
        let head = match idle {
            Some((least, most)) => {
                let patience = least + (most - least).mul_f64(origin.chance());
                match tokio::time::timeout(patience, head(&mut stream, &mut buffer)).await {
                    Ok(head) => head,
                    Err(_) => return,
                }
            }
            None => head(&mut stream, &mut buffer).await,
        };
        let Some(head) = head else { return };
        if head.starts_with(b"OPTIONS * ") {
            return; // The question whether anybody is there; hanging up is an answer, too.
        }
        let Some(request) = Request::read(&head) else {
            origin.write(&format!("! no request: {:?}", head.get(..200).unwrap_or(&head)));
            return;
        };
        origin.write(&format!("{} {}", if request.post { 'P' } else { 'G' }, request.id));
        if request.websocket {
            return websocket(&mut stream, &head).await;
        }
        if let Some((desk, time)) = &origin.desk {
            let _turn = desk.acquire().await;
            tokio::time::sleep(*time).await;
        }
        let fault = request.fault.unwrap_or(origin.manner.lock().map_or(Fault::None, |manner| manner.fault));
        if !exchange(&origin, &mut stream, &mut buffer, &request, fault).await {
            return;
        }
    }
}

/// Grants the upgrade, and listens until the end.
async fn websocket(stream: &mut TcpStream, head: &[u8]) {
    let head = String::from_utf8_lossy(head);
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let key = fields.find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"));
    let accept = portunus_tests::h2::accept(key.map_or("", |(_, key)| key.trim()));
    let grant = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    if stream.write_all(grant.as_bytes()).await.is_ok() {
        until_closed(stream).await;
    }
}

/// Reads the body and answers; false when the connection is over.
async fn exchange(
    origin: &Origin,
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    request: &Request,
    fault: Fault,
) -> bool {
    let answer = answer(origin, request, fault);
    match fault {
        Fault::EarlyClose => {
            let _ = stream.write_all(&answer).await;
            return false;
        }
        Fault::Early if stream.write_all(&answer).await.is_err() => return false,
        _ => {}
    }
    let Some(body) = request_body(stream, buffer, request).await else { return false };
    if request.post && body::judge(&body, &request.id) != Judgement::Right {
        origin.write(&format!("! the body of {} is not the one that was sent", request.id));
    }
    match fault {
        Fault::Early => !request.close,
        Fault::Silent => {
            until_closed(stream).await;
            false
        }
        Fault::Reset(at) | Fault::ChunkedReset(at) => {
            let _ = stream.write_all(answer.get(..at).unwrap_or(&answer)).await;
            let _ = SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
            false
        }
        Fault::Close(at) => {
            let _ = stream.write_all(answer.get(..at).unwrap_or(&answer)).await;
            false
        }
        Fault::Stall(at) => {
            let _ = stream.write_all(answer.get(..at).unwrap_or(&answer)).await;
            until_closed(stream).await;
            false
        }
        Fault::Drip(pause) => {
            for part in answer.chunks(64) {
                if stream.write_all(part).await.is_err() {
                    return false;
                }
                tokio::time::sleep(pause).await;
            }
            true
        }
        Fault::Slow(time) => {
            tokio::time::sleep(time).await;
            stream.write_all(&answer).await.is_ok() && !request.close
        }
        Fault::Garbage(_) | Fault::Short(_) | Fault::ChunkedClose => {
            let _ = stream.write_all(&answer).await;
            false
        }
        _ => stream.write_all(&answer).await.is_ok() && !request.close,
    }
}

fn answer(origin: &Origin, request: &Request, fault: Fault) -> Arc<Vec<u8>> {
    if request.bytes < HUGE_BYTES {
        return Arc::new(make_answer(origin, request, fault));
    }
    let key = format!("{} {} {fault:?}", request.id, request.bytes);
    let mut huge = origin.huge.lock().expect("the answer");
    match &*huge {
        Some((known, answer)) if *known == key => answer.clone(),
        _ => {
            let answer = Arc::new(make_answer(origin, request, fault));
            *huge = Some((key, answer.clone()));
            answer
        }
    }
}

fn make_answer(origin: &Origin, request: &Request, fault: Fault) -> Vec<u8> {
    if let Fault::Garbage(number) = fault {
        return heads::broken(number);
    }
    let mut body = body::make(&request.id, &origin.name, request.bytes);
    let status = if let Fault::Status(status) = fault { status } else { 200 };
    let head = format!("HTTP/1.1 {status} X\r\nX-Origin: {}\r\n", origin.name);
    if let Fault::ChunkedReset(_) | Fault::ChunkedClose = fault {
        let mut text = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
        for part in body.chunks(300) {
            text.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
            text.extend_from_slice(part);
            text.extend_from_slice(b"\r\n");
        }
        return text;
    }
    let length = match fault {
        Fault::Short(bytes) => body.len() + bytes,
        _ => body.len(),
    };
    if let Fault::Long(bytes) = fault {
        body.resize(length + bytes, b'!');
    }
    let mut text = format!("{head}Content-Length: {length}\r\n\r\n").into_bytes();
    text.append(&mut body);
    text
}

impl Origin {
    fn write(&self, line: &str) {
        let _ = (&self.record).write_all(format!("{line}\n").as_bytes());
    }

    /// A number from 0 to 1, not for guessing games.
    fn chance(&self) -> f64 {
        let mut state = self.chance.load(Relaxed);
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.chance.store(state, Relaxed);
        (state >> 11) as f64 / (1u64 << 53) as f64
    }
}

struct Request {
    post: bool,
    id: String,
    bytes: usize,
    fault: Option<Fault>,
    length: Option<usize>,
    chunked: bool,
    close: bool,
    websocket: bool,
}

impl Request {
    fn read(head: &[u8]) -> Option<Request> {
        let text = std::str::from_utf8(head).ok()?;
        let (line, fields) = text.split_once("\r\n")?;
        let mut words = line.split(' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        let post = method == "POST";
        if !(post || method == "GET") || !version.starts_with("HTTP/1.") || words.next().is_some() {
            return None;
        }
        let query = target.split_once('?').map_or("", |(_, query)| query);
        let value = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        let field = |name: &str| {
            let mut pairs = fields.lines().filter_map(|line| line.split_once(':'));
            pairs.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
        };
        Some(Request {
            post,
            id: value("id").unwrap_or("-").to_owned(),
            bytes: value("bytes").and_then(|text| text.parse().ok()).unwrap_or(0),
            fault: value("fault").and_then(Fault::read),
            length: field("content-length").and_then(|text| text.parse().ok()),
            chunked: field("transfer-encoding").is_some(),
            websocket: field("upgrade").is_some(),
            close: version == "HTTP/1.0"
                || field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")),
        })
    }
}

async fn head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            return Some(take(buffer, at + 4));
        }
        fill(stream, buffer).await?;
    }
}

async fn request_body(stream: &mut TcpStream, buffer: &mut Vec<u8>, request: &Request) -> Option<Vec<u8>> {
    if !request.chunked {
        return exactly(stream, buffer, request.length.unwrap_or(0)).await;
    }
    let mut body = Vec::new();
    loop {
        let at = loop {
            match buffer.windows(2).position(|window| window == b"\r\n") {
                Some(at) => break at,
                None => fill(stream, buffer).await?,
            }
        };
        let line = exactly(stream, buffer, at + 2).await?;
        let size = usize::from_str_radix(std::str::from_utf8(&line[..at]).ok()?, 16).ok()?;
        let mut data = exactly(stream, buffer, size + 2).await?;
        data.truncate(size);
        if size == 0 {
            return Some(body);
        }
        body.append(&mut data);
    }
}

async fn until_closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    while fill(stream, &mut rest).await.is_some() {
        rest.clear();
    }
}

async fn exactly(stream: &mut TcpStream, buffer: &mut Vec<u8>, count: usize) -> Option<Vec<u8>> {
    while buffer.len() < count {
        fill(stream, buffer).await?;
    }
    Some(take(buffer, count))
}

fn take(buffer: &mut Vec<u8>, count: usize) -> Vec<u8> {
    let rest = buffer.split_off(count);
    std::mem::replace(buffer, rest)
}

async fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    buffer.reserve(16 << 10);
    matches!(stream.read_buf(buffer).await, Ok(1..)).then_some(())
}

const HUGE_BYTES: usize = 1 << 20;
