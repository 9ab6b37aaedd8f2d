//! Read everything; change a few things: a small HTTP server for operators and their tools.
//!
//! | request | answer |
//! |---|---|
//! | `GET /live` | 200 as long as the program runs |
//! | `GET /ready` | 200 while it takes requests, 503 while it stops |
//! | `GET /status` | everything at a glance, as JSON |
//! | `GET /metrics` | the counters, for Prometheus |
//! | `GET /config` | the configuration in force as JSON, without secrets, with its hash as `ETag` |
//! | `POST /reload` | 200 when the new configuration is in force, 422 with the mistakes when it is refused, 409 when an address cannot be listened at |
//! | `POST /upgrade` | 200 when the program on disk has taken over, 409 with the reason when it has not |
//! | `GET /pools` | the pools with their hosts, as in the status, with an `ETag` |
//! | `GET`, `PUT`, `PATCH`, `DELETE /pools/POOL/hosts/HOST` | see `pools.rs` |
//! | `POST /stop` | 202; the program finishes what it has and ends |

mod answer;
mod door;
mod gate;
mod pools;
mod status;

pub use door::{Door, Spare, inherit, open, shown};

use crate::apply::Supervisor;
use crate::observe::log;
use gate::Gate;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinHandle};

/// The admin API, being served.
pub struct Service {
    task: JoinHandle<()>,
    room: Arc<Semaphore>,
}

impl Service {
    /// Serves whoever comes through `door`, until it is told to close.
    pub fn start(door: Door, supervisor: Arc<Supervisor>) -> Service {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Service { task: tokio::spawn(serve(door, supervisor, Arc::clone(&room))), room }
    }

    /// Lets nobody in any more.
    pub fn close(&self) {
        self.task.abort();
    }

    /// Lets nobody in any more, and resolves when nobody is inside, or soon; says whether everybody had left by then.
    pub async fn finish(self) -> bool {
        self.close();
        let _ = self.task.await; // it was told to end, and does at its next stop
        let all = self.room.acquire_many(CONNECTIONS_MAX as u32);
        tokio::time::timeout(LAST_WORD_TIME, all).await.is_ok()
    }
}

async fn serve(door: Door, supervisor: Arc<Supervisor>, room: Arc<Semaphore>) {
    let gate = Arc::new(door.gate());
    let mut strangers = Strangers::default();
    loop {
        match door.accept().await {
            Ok(stream) => {
                if room.available_permits() == 0 {
                    strangers.send_one_away();
                }
                let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
                let is_known = Arc::new(AtomicBool::new(false));
                let (gate, supervisor) = (Arc::clone(&gate), Arc::clone(&supervisor));
                let task = connection(stream, gate, supervisor, Arc::clone(&is_known), place);
                strangers.add(is_known, tokio::spawn(task).abort_handle());
            }
            Err(error) => {
                // Most likely there is no descriptor left; trying at once would only burn the processor.
                log::warn(format_args!("the admin API cannot accept: {error}"));
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Those inside who have not shown yet that they may be there: when there is no room the one goes that has been there for longest, so
/// that nobody can take the room of those who may.
#[derive(Default)]
struct Strangers(VecDeque<(Arc<AtomicBool>, AbortHandle)>);

impl Strangers {
    fn add(&mut self, is_known: Arc<AtomicBool>, task: AbortHandle) {
        self.0.retain(|(is_known, task)| !task.is_finished() && !is_known.load(Relaxed));
        self.0.push_back((is_known, task));
    }

    fn send_one_away(&mut self) {
        self.0.retain(|(is_known, task)| !task.is_finished() && !is_known.load(Relaxed));
        if let Some((_, task)) = self.0.pop_front() {
            task.abort();
        }
    }
}

/// Either kind of connection.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn connection(
    stream: Box<dyn Stream>,
    gate: Arc<Gate>,
    supervisor: Arc<Supervisor>,
    is_known: Arc<AtomicBool>,
    _place: OwnedSemaphorePermit,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (gate, supervisor) = (Arc::clone(&gate), Arc::clone(&supervisor));
        is_known.fetch_or(gate.check(request.headers()).is_ok(), Relaxed);
        async move { Ok::<_, Infallible>(answer::to(request, &gate, &supervisor).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = tokio::time::timeout(CONNECTION_TIME_MAX, connection).await {
        log::debug(format_args!("a connection to the admin API: {error}"));
    }
}

const CONNECTIONS_MAX: usize = 64;
const HEAD_TIME: Duration = Duration::from_secs(10);
const HEAD_BYTES_MAX: usize = 16 << 10;
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(300);
/// How long the end of the program waits for the last answers.
const LAST_WORD_TIME: Duration = Duration::from_millis(500);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::Trouble;
    use crate::legacy::Legacy;
    use crate::source::Source;
    use portunus_relay::plan::Admin;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    fn supervisor() -> Arc<Supervisor> {
        let text = "admin off\nworkers 1\nsite :0 { listen 127.0.0.1:0; respond 200 }".into();
        let source = Source::Text { name: "test".into(), text };
        let opened = |_: &_| Ok::<_, Trouble>(());
        Supervisor::start(source, |_| None, "0", &mut Legacy::default(), opened).unwrap().0
    }

    #[tokio::test]
    async fn the_end_waits_for_those_who_are_inside_and_for_nobody_else() {
        let path = std::env::temp_dir().join(format!("portunus-admin-{}.sock", std::process::id()));
        let begin = || Service::start(open(&Admin::Unix(path.clone())).unwrap().unwrap(), supervisor());
        let is_taken = async |service: &Service, places| {
            let taken = async {
                while service.room.available_permits() > CONNECTIONS_MAX - places {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(30), taken).await.unwrap();
        };
        let service = begin();
        assert!(service.finish().await);
        let service = begin();
        let _silent = UnixStream::connect(&path).await.unwrap();
        is_taken(&service, 1).await;
        assert!(!service.finish().await);
    }

    #[tokio::test]
    async fn who_says_nothing_keeps_nobody_out() {
        let path = std::env::temp_dir().join(format!("portunus-crowd-{}.sock", std::process::id()));
        let service = Service::start(open(&Admin::Unix(path.clone())).unwrap().unwrap(), supervisor());
        let ask = async |stream: &mut UnixStream| {
            stream.write_all(b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200");
        };
        let mut known = UnixStream::connect(&path).await.unwrap();
        ask(&mut known).await;
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS_MAX * 2 {
            silent.push(UnixStream::connect(&path).await.unwrap());
        }
        ask(&mut UnixStream::connect(&path).await.unwrap()).await;
        assert_eq!(silent[0].read(&mut [0; 9]).await.unwrap(), 0, "the first one has been sent away");
        known.write_all(b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert!(known.read(&mut [0; 9]).await.unwrap() > 0);
        service.close();
    }
}
