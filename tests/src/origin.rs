//! origin: a server that does exactly what its script says and remembers every request.

use crate::message::{Framing, Request, request_framing};
use crate::place::eventually;
use crate::wire::{Fault, Wire};
use socket2::SockRef;
use std::collections::HashMap;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

#[cfg(feature = "tls")]
mod tls;

/// A listening origin; it ends with all its connections when this is dropped.
pub struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
}

type Script = dyn Fn(&mut Connection) + Send + Sync;

#[derive(Default)]
struct Shared {
    listener: Mutex<Option<TcpListener>>,
    streams: Mutex<HashMap<usize, TcpStream>>,
    requests: Mutex<Vec<Request>>,
    mistakes: Mutex<Vec<String>>,
    changed: Condvar,
    connections: AtomicUsize,
    #[cfg(feature = "tls")]
    handshakes: Mutex<Vec<(Option<String>, bool)>>,
    ended: AtomicUsize,
    killed: AtomicBool,
}

impl Origin {
    /// Answers every request, its body read to the end, as `answer` says; keep-alive.
    pub fn serve(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Origin {
        Origin::serve_at("127.0.0.1:0".parse().expect("an address"), answer)
    }

    /// The same at a given address, for an origin that comes back.
    pub fn serve_at(
        address: SocketAddr,
        answer: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Origin {
        Origin::script_at(address, move |connection| {
            while let Some(request) = connection.request() {
                if !connection.answer(answer(&request)) || request.fields.all("connection").contains(&"close")
                {
                    break;
                }
            }
        })
    }

    /// Answers every request with `text`.
    pub fn says(text: &str) -> Origin {
        let text = text.to_owned();
        Origin::serve(move |_| Answer::text(&text))
    }

    /// Runs `script` for every connection; the connection is closed when it returns.
    pub fn script(script: impl Fn(&mut Connection) + Send + Sync + 'static) -> Origin {
        Origin::script_at("127.0.0.1:0".parse().expect("an address"), script)
    }

    fn script_at(address: SocketAddr, script: impl Fn(&mut Connection) + Send + Sync + 'static) -> Origin {
        // SO_REUSEADDR, so that an origin can come back at once where old connections still wait for their end.
        let listener =
            eventually("the origin's port", Duration::from_secs(5), || TcpListener::bind(address).ok());
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared::default());
        *lock(&shared.listener) = listener.try_clone().ok();
        let (of_thread, script): (_, Arc<Script>) = (shared.clone(), Arc::new(script));
        thread::spawn(move || accept(&listener, &of_thread, &script));
        Origin { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were ever accepted.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(SeqCst)
    }

    /// How many connections have ended.
    pub fn ended(&self) -> usize {
        self.shared.ended.load(SeqCst)
    }

    /// Every request whose head arrived, in order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.requests).clone()
    }

    /// How many of them.
    pub fn count(&self) -> usize {
        lock(&self.shared.requests).len()
    }

    /// Those of them that came with their whole body.
    pub fn complete(&self) -> Vec<Request> {
        lock(&self.shared.requests).iter().filter(|request| request.complete).cloned().collect()
    }

    /// The last one.
    #[track_caller]
    pub fn last(&self) -> Request {
        lock(&self.shared.requests).last().cloned().expect("the origin saw no request")
    }

    /// Waits until `count` requests have arrived.
    #[track_caller]
    pub fn wait_for(&self, count: usize) {
        let requests = lock(&self.shared.requests);
        let waited = self
            .shared
            .changed
            .wait_timeout_while(requests, Duration::from_secs(10), |all| all.len() < count);
        let (requests, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!timeout.timed_out(), "{} requests instead of {count}", requests.len());
    }

    /// What arrived and was not by the letter; a proxy must never cause any.
    pub fn mistakes(&self) -> Vec<String> {
        lock(&self.shared.mistakes).clone()
    }

    /// Each value of query parameter `id` with how often it arrived: the ledger.
    pub fn ledger(&self) -> HashMap<String, usize> {
        let mut ledger = HashMap::new();
        for request in lock(&self.shared.requests).iter() {
            if let Some(id) = request.query("id") {
                *ledger.entry(id.to_owned()).or_default() += 1;
            }
        }
        ledger
    }

    /// Stops at once: connections are reset, the port refuses.
    pub fn kill(&self) {
        self.shared.killed.store(true, SeqCst);
        if let Some(listener) = lock(&self.shared.listener).take() {
            let _ = SockRef::from(&listener).shutdown(Shutdown::Both);
        }
        for (_, stream) in lock(&self.shared.streams).drain() {
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.address.fmt(f)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.kill();
        let mistakes = self.mistakes();
        if !thread::panicking() {
            assert!(mistakes.is_empty(), "malformed at the origin: {mistakes:#?}");
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, script: &Arc<Script>) {
    while let Ok((stream, _)) = listener.accept() {
        if shared.killed.load(SeqCst) {
            return;
        }
        let _ = stream.set_nodelay(true);
        let _ = stream.set_write_timeout(Some(Duration::from_secs(30)));
        let index = shared.connections.fetch_add(1, SeqCst);
        if let Ok(copy) = stream.try_clone() {
            lock(&shared.streams).insert(index, copy);
        }
        let (shared, script) = (shared.clone(), script.clone());
        thread::spawn(move || {
            let mut wire = Wire::new(stream);
            wire.patience = Duration::from_secs(60);
            let mut connection = Connection { index, wire: Some(wire), shared: shared.clone(), taken: 0 };
            script(&mut connection);
            // The copy must go too, or the peer would not see the end.
            lock(&shared.streams).remove(&index);
            drop(connection.wire.take());
            shared.ended.fetch_add(1, SeqCst);
        });
    }
}

/// One connection to an origin, in the hands of its script.
pub struct Connection {
    /// Which one, counted from 0.
    pub index: usize,
    wire: Option<Wire>,
    shared: Arc<Shared>,
    taken: usize,
}

impl Connection {
    /// The next request's head; none at the end. It counts as seen from now on.
    pub fn head(&mut self) -> Option<Request> {
        match self.wire.as_mut()?.request_head() {
            Ok(mut request) => {
                request.connection = self.index;
                request.index = self.taken;
                self.taken += 1;
                lock(&self.shared.requests).push(request.clone());
                self.shared.changed.notify_all();
                Some(request)
            }
            Err(Fault::Closed | Fault::Reset | Fault::Timeout) => None,
            Err(Fault::Cut) => None,
            Err(Fault::Malformed(reason)) => {
                lock(&self.shared.mistakes).push(reason);
                None
            }
        }
    }

    /// Reads the body of `request`; false when it does not come whole.
    pub fn body(&mut self, request: &mut Request) -> bool {
        let framing = request_framing(request).unwrap_or(Framing::None);
        let Some(wire) = self.wire.as_mut() else { return false };
        match wire.body(framing) {
            Ok(body) => {
                request.body = body;
                let mut requests = lock(&self.shared.requests);
                let mine =
                    |one: &&mut Request| one.connection == request.connection && one.index == request.index;
                if let Some(recorded) = requests.iter_mut().rev().find(mine) {
                    recorded.body.clone_from(&request.body);
                    recorded.complete = true;
                }
                self.shared.changed.notify_all();
                true
            }
            Err(Fault::Malformed(reason)) => {
                lock(&self.shared.mistakes).push(reason);
                false
            }
            Err(_) => false,
        }
    }

    /// The next request with its body; none at the end.
    pub fn request(&mut self) -> Option<Request> {
        let mut request = self.head()?;
        self.body(&mut request).then_some(request)
    }

    /// Sends bytes; false when nobody takes them.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.wire.as_mut().is_some_and(|wire| wire.send(bytes.as_ref()).is_ok())
    }

    /// Sends an answer; false when the connection is not to be used again.
    pub fn answer(&mut self, answer: Answer) -> bool {
        let sent = self.send(&answer.bytes);
        match answer.then {
            Then::KeepAlive => sent,
            Then::Close => false,
            Then::Reset => {
                self.reset();
                false
            }
            Then::Stall => {
                self.until_closed();
                false
            }
        }
    }

    /// Whatever comes next; empty at the end or when nothing comes.
    pub fn some(&mut self) -> Vec<u8> {
        self.wire.as_mut().and_then(|wire| wire.some().ok()).unwrap_or_default()
    }

    /// Sends back what comes; at the end of that, says "bye".
    pub fn echo(&mut self) {
        loop {
            let bytes = self.some();
            if bytes.is_empty() {
                self.send("bye");
                return;
            }
            self.send(bytes);
        }
    }

    /// Exactly so many bytes.
    pub fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        self.wire.as_mut()?.exactly(count).ok()
    }

    /// One chunk's data.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        self.wire.as_mut()?.chunk().ok()
    }

    /// Waits until something has come, and leaves it where it is; whether that is more than the end.
    pub fn unread(&self) -> bool {
        let stream = lock(&self.shared.streams).get(&self.index).and_then(|stream| stream.try_clone().ok());
        stream.is_some_and(|stream| stream.peek(&mut [0]).is_ok_and(|count| count > 0))
    }

    /// Says nothing more and waits until the peer closes; says how many bytes still came.
    pub fn until_closed(&mut self) -> usize {
        let Some(wire) = self.wire.as_mut() else { return 0 };
        let mut count = 0;
        loop {
            match wire.some() {
                Ok(bytes) if bytes.is_empty() => return count,
                Ok(bytes) => count += bytes.len(),
                Err(_) => return count,
            }
        }
    }

    /// Ends what we send.
    pub fn half_close(&self) {
        if let Some(wire) = &self.wire {
            wire.half_close();
        }
    }

    /// Resets the connection.
    pub fn reset(&mut self) {
        lock(&self.shared.streams).remove(&self.index);
        if let Some(wire) = self.wire.take() {
            wire.reset();
        }
    }
}

/// What an origin sends, and what it does then.
#[derive(Clone, Debug)]
pub struct Answer {
    bytes: Vec<u8>,
    then: Then,
}

#[derive(Clone, Copy, Debug)]
enum Then {
    KeepAlive,
    Close,
    Reset,
    Stall,
}

impl Answer {
    /// 200 with a text and its length.
    pub fn text(text: &str) -> Answer {
        Answer::body(text.as_bytes())
    }

    /// 200 with a body and its length.
    pub fn body(body: &[u8]) -> Answer {
        Answer::status(200, body)
    }

    /// Any status with a body and its length.
    pub fn status(status: u16, body: &[u8]) -> Answer {
        let mut bytes = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        bytes.extend_from_slice(body);
        Answer::raw(bytes)
    }

    /// 200 with further field lines and a text.
    pub fn fields(lines: &str, text: &str) -> Answer {
        Answer::raw(format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: {}\r\n\r\n{text}", text.len()))
    }

    /// 200 in chunks.
    pub fn chunked(parts: &[&str]) -> Answer {
        let mut text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
        for part in parts {
            text.push_str(&format!("{:x}\r\n{part}\r\n", part.len()));
        }
        text.push_str("0\r\n\r\n");
        Answer::raw(text)
    }

    /// 200 that ends with the connection.
    pub fn until_close(text: &str) -> Answer {
        Answer::raw(format!("HTTP/1.1 200 OK\r\n\r\n{text}")).close()
    }

    /// Exactly these bytes.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Answer {
        Answer { bytes: bytes.into(), then: Then::KeepAlive }
    }

    /// Nothing at all, and the connection is closed.
    pub fn nothing() -> Answer {
        Answer::raw("").close()
    }

    /// Then the connection is closed.
    pub fn close(self) -> Answer {
        Answer { then: Then::Close, ..self }
    }

    /// Then the connection is reset.
    pub fn reset(self) -> Answer {
        Answer { then: Then::Reset, ..self }
    }

    /// Then nothing comes until the peer closes.
    pub fn stall(self) -> Answer {
        Answer { then: Then::Stall, ..self }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
