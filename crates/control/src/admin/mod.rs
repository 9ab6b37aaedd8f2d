//! Read everything; change a few things: a small HTTP server for operators and their tools.
//!
//! | request | answer |
//! |---|---|
//! | `GET /live` | 200 as long as the program runs |
//! | `GET /ready` | 200 while it takes requests, 503 while it stops |
//! | `GET /status` | everything at a glance, as JSON |
//! | `GET /metrics` | the counters, for Prometheus |
//! | `GET /config` | the configuration in force as JSON, without secrets, with its hash as `ETag` |
//! | `POST /reload` | 200 when the new configuration is in force, 422 with the mistakes when it is refused |
//! | `GET /pools` | the pools with their hosts, as in the status |
//! | `PUT`, `PATCH`, `DELETE /pools/POOL/hosts/HOST` | see `pools.rs` |
//! | `POST /stop` | 202; the program finishes what it has and ends |

mod answer;
mod door;
mod gate;
mod pools;
mod status;

pub use door::{Door, open};

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

/// Serves whoever comes through `door`, for ever.
pub async fn serve(door: Door, supervisor: Arc<Supervisor>) {
    let gate = Arc::new(door.gate());
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
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
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
