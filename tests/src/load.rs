//! load: many requests in a row or side by side, each with its own id and its own entry in the ledger.

use crate::client::Client;
use crate::wire::Fault;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Clients that ask one request after the other until they are told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    /// How many requests each client has finished.
    asked: Arc<[AtomicUsize]>,
    threads: Vec<JoinHandle<Vec<Outcome>>>,
}

/// What became of one request.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its id, unique within the load: the query parameter `id`.
    pub id: String,
    /// The status, or why there was none.
    pub result: Result<u16, Fault>,
    /// The body of the answer.
    pub body: Vec<u8>,
    /// How long it took.
    pub time: Duration,
}

impl Load {
    /// `clients` clients on keep-alive connections; `request` makes the bytes of a request from its id.
    pub fn start(address: SocketAddr, clients: usize, request: fn(&str) -> String) -> Load {
        static LOADS: AtomicUsize = AtomicUsize::new(0);
        let load = LOADS.fetch_add(1, SeqCst);
        let stop = Arc::new(AtomicBool::new(false));
        let asked: Arc<[AtomicUsize]> = (0..clients).map(|_| AtomicUsize::new(0)).collect();
        let threads = (0..clients).map(|client| {
            let (stop, asked) = (stop.clone(), asked.clone());
            thread::spawn(move || run(address, &format!("{load}-{client}"), request, &stop, &asked[client]))
        });
        let threads = threads.collect();
        Load { stop, asked, threads }
    }

    /// How many requests have been finished.
    pub fn asked(&self) -> usize {
        self.asked.iter().map(|asked| asked.load(SeqCst)).sum()
    }

    /// Waits until `count` more requests have been finished.
    #[track_caller]
    pub fn wait_for(&self, count: usize) {
        let goal = self.asked() + count;
        crate::eventually("the load's requests", Duration::from_secs(60), || {
            (self.asked() >= goal).then_some(())
        });
    }

    /// Waits until every client has had an answer: each has its connection then.
    #[track_caller]
    pub fn wait_for_everybody(&self) {
        crate::eventually("an answer for each client", Duration::from_secs(60), || {
            self.asked.iter().all(|asked| asked.load(SeqCst) > 0).then_some(())
        });
    }

    /// Ends it and says what became of each request.
    pub fn finish(self) -> Vec<Outcome> {
        self.stop.store(true, SeqCst);
        self.threads.into_iter().flat_map(|thread| thread.join().expect("a client of the load")).collect()
    }
}

/// A GET for `id`.
pub fn get(id: &str) -> String {
    format!("GET /load?id={id} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// A POST for `id`, with the id as its body.
pub fn post(id: &str) -> String {
    format!("POST /load?id={id} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{id}", id.len())
}

/// Those that did not get a 200.
pub fn failed(outcomes: &[Outcome]) -> Vec<&Outcome> {
    outcomes.iter().filter(|outcome| outcome.result != Ok(200)).collect()
}

/// The time that a share of the requests stayed below.
pub fn quantile(outcomes: &[Outcome], share: f64) -> Duration {
    let mut times: Vec<Duration> = outcomes.iter().map(|outcome| outcome.time).collect();
    times.sort();
    let at = (times.len() as f64 * share) as usize;
    times.get(at.min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn run(
    address: SocketAddr,
    name: &str,
    request: fn(&str) -> String,
    stop: &AtomicBool,
    asked: &AtomicUsize,
) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let mut connection: Option<Client> = None;
    for number in 0.. {
        if stop.load(SeqCst) {
            break;
        }
        let id = format!("{name}-{number}");
        let begun = Instant::now();
        let answer = ask(address, &mut connection, &request(&id));
        let time = begun.elapsed();
        let (result, body) = match answer {
            Ok(answer) => {
                if answer.fields.all("connection").iter().any(|value| value.eq_ignore_ascii_case("close")) {
                    connection = None;
                }
                (Ok(answer.status), answer.body)
            }
            Err(fault) => {
                connection = None;
                (Err(fault), Vec::new())
            }
        };
        outcomes.push(Outcome { id, result, body, time });
        asked.fetch_add(1, SeqCst);
    }
    outcomes
}

fn ask(address: SocketAddr, connection: &mut Option<Client>, bytes: &str) -> Result<crate::Response, Fault> {
    if connection.is_none() {
        *connection = Client::try_connect(address);
    }
    let client = connection.as_mut().ok_or(Fault::Reset)?;
    client.try_send(bytes)?;
    client.try_response("GET")
}

/// Runs `task` on `count` threads and gives back what each of them said.
pub fn side_by_side<T: Send>(count: usize, task: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for number in 0..count {
            let (task, results) = (&task, &results);
            scope.spawn(move || {
                let result = task(number);
                results.lock().unwrap_or_else(PoisonError::into_inner).push(result);
            });
        }
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}
