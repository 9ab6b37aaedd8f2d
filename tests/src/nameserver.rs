//! nameserver: a DNS server over UDP that says what a test wants, or nothing.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// With what it knows.
    Well,
    /// Not at all.
    Silent,
    /// That it cannot (SERVFAIL).
    Failing,
    /// That there is nothing.
    Empty,
}

/// A running server; it ends when this is dropped.
pub struct NameServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    records: Mutex<HashMap<String, Vec<Record>>>,
    mood: Mutex<Mood>,
    ttl: AtomicUsize,
    asked: AtomicUsize,
    stopped: AtomicBool,
}

#[derive(Clone, Debug)]
enum Record {
    Address(IpAddr),
    Service { priority: u16, weight: u16, port: u16, target: String },
}

impl NameServer {
    /// Knows nothing yet; its answers hold for one second.
    pub fn start() -> NameServer {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = socket.local_addr().expect("its address");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        let shared = Arc::new(Shared {
            records: Mutex::default(),
            mood: Mutex::new(Mood::Well),
            ttl: AtomicUsize::new(1),
            asked: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        });
        let of_thread = shared.clone();
        thread::spawn(move || {
            let mut buffer = [0; 512];
            while !of_thread.stopped.load(SeqCst) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer)
                    && let Some(answer) = of_thread.answer(&buffer[..length])
                {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        NameServer { address, shared }
    }

    /// From now on `name` has these addresses.
    pub fn set(&self, name: &str, addresses: &[&str]) {
        let records = addresses.iter().map(|text| Record::Address(text.parse().expect("an address")));
        lock(&self.shared.records).insert(name.to_owned(), records.collect());
    }

    /// From now on `name` has these services: priority, weight, port, target.
    pub fn set_services(&self, name: &str, services: &[(u16, u16, u16, &str)]) {
        let record = |&(priority, weight, port, target): &(u16, u16, u16, &str)| Record::Service {
            priority,
            weight,
            port,
            target: target.to_owned(),
        };
        lock(&self.shared.records).insert(name.to_owned(), services.iter().map(record).collect());
    }

    /// From now on it answers so.
    pub fn feel(&self, mood: Mood) {
        *lock(&self.shared.mood) = mood;
    }

    /// How many questions have come.
    pub fn asked(&self) -> usize {
        self.shared.asked.load(SeqCst)
    }
}

impl std::fmt::Display for NameServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.address.fmt(f)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, SeqCst);
    }
}

impl Shared {
    /// The answer to a message with one question (RFC 1035 §4.1).
    fn answer(&self, question: &[u8]) -> Option<Vec<u8>> {
        self.asked.fetch_add(1, SeqCst);
        let mood = *lock(&self.mood);
        let mut at = 12;
        let mut labels = Vec::new();
        while let Some(length) = question.get(at).filter(|length| **length > 0) {
            let label = question.get(at + 1..at + 1 + usize::from(*length))?;
            labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
            at += 1 + label.len();
        }
        let kind = u16::from_be_bytes(question.get(at + 1..at + 3)?.try_into().ok()?);
        let known = lock(&self.records).get(&labels.join(".")).cloned();
        let (records, code) = match (mood, known) {
            (Mood::Silent, _) => return None,
            (Mood::Failing, _) => (Vec::new(), 2),
            (Mood::Empty, _) => (Vec::new(), 0),
            (Mood::Well, None) => (Vec::new(), 3),
            (Mood::Well, Some(records)) => (records, 0),
        };
        let data: Vec<_> = records.iter().filter_map(|record| record.data(kind)).collect();
        let mut answer = question.get(..2)?.to_vec();
        answer.extend([0x81, 0x80 | code, 0, 1, 0, u8::try_from(data.len()).ok()?, 0, 0, 0, 0]);
        answer.extend(question.get(12..at + 5)?);
        for data in data {
            answer.extend([0xc0, 12]); // the name of the question
            answer.extend(kind.to_be_bytes());
            answer.extend([0, 1]);
            answer.extend(u32::try_from(self.ttl.load(SeqCst)).ok()?.to_be_bytes());
            answer.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
            answer.extend(data);
        }
        Some(answer)
    }
}

impl Record {
    /// Its data, when it is of this kind.
    fn data(&self, kind: u16) -> Option<Vec<u8>> {
        match (self, kind) {
            (Record::Address(IpAddr::V4(address)), 1) => Some(address.octets().to_vec()),
            (Record::Address(IpAddr::V6(address)), 28) => Some(address.octets().to_vec()),
            (Record::Service { priority, weight, port, target }, 33) => {
                let mut data: Vec<u8> =
                    [priority, weight, port].iter().flat_map(|part| part.to_be_bytes()).collect();
                for label in target.split('.') {
                    data.push(u8::try_from(label.len()).ok()?);
                    data.extend(label.as_bytes());
                }
                data.push(0);
                Some(data)
            }
            _ => None,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
