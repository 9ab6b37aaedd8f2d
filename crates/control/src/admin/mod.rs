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
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

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
        self.close(); // whoever waits at the door holds the place of the next one
        let all = self.room.acquire_many(CONNECTIONS_MAX as u32);
        tokio::time::timeout(LAST_WORD_TIME, all).await.is_ok()
    }
}

async fn serve(door: Door, supervisor: Arc<Supervisor>, room: Arc<Semaphore>) {
    let gate = Arc::new(door.gate());
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        match door.accept().await {
            Ok(stream) => {
                tokio::spawn(connection(stream, Arc::clone(&gate), Arc::clone(&supervisor), place));
            }
            Err(error) => {
                // Most likely there is no descriptor left; trying at once would only burn the processor.
                log::warn(format_args!("the admin API cannot accept: {error}"));
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
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
    _place: OwnedSemaphorePermit,
) {
    let service = service_fn(move |request| {
        let (gate, supervisor) = (Arc::clone(&gate), Arc::clone(&supervisor));
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
        is_taken(&service, 1).await; // by whoever waits for somebody to come
        assert!(service.finish().await);
        let service = begin();
        let _silent = UnixStream::connect(&path).await.unwrap();
        is_taken(&service, 2).await;
        assert!(!service.finish().await);
    }
}
