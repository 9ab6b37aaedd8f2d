//! Mirror: copies of requests for a pool whose answers nobody sees; sent when the real answer has begun, and never waited for.

use crate::cells::PoolCells;
use crate::clock::Clock;
use crate::deadlines::{Deadline, Deadlines};
use crate::plan::Share;
use crate::pool::heads::{self, Asked, Prepared};
use crate::pool::{HostPool, Lease, dial};
use portunus_message::fields::FieldValue;
use portunus_message::{Crime, Error, Exchange, FieldName, Limits, Method, Phase, Response, Retry, Tick};
use portunus_wire::h1::{Framing, HeadBounds};
use portunus_wire::preface::Preface;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// The most of a body that is copied; requests with more of it are not mirrored.
pub const BODY_BYTES_MAX: usize = 64 << 10;
/// How many copies one worker has under way to one pool; those above are not sent.
const UNDER_WAY_MAX: u64 = 32;
/// How long one may take in all.
const TIME_MAX: Duration = Duration::from_secs(10);
/// How much of an answer is read so that the connection can be used again.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// The field that marks a copy.
const MARK: &str = "X-Portunus-Mirror";

/// The pool that gets copies of a route's requests.
#[derive(Debug)]
pub struct Mirror {
    /// Its index.
    pub pool: u32,
    /// Of how many requests.
    pub share: Share,
    mark: FieldName,
}

impl Mirror {
    /// Copies of this share of requests for that pool.
    pub fn new(pool: u32, share: Share) -> Option<Mirror> {
        Some(Mirror { pool, share, mark: FieldName::new(MARK)? })
    }

    /// Sends a copy of the request of `x` with `body` to `host`, unless too many are under way. Nothing is waited for.
    pub fn send(
        &self,
        x: &mut Exchange,
        body: &[u8],
        host: &Rc<HostPool>,
        cells: &Rc<PoolCells>,
        limits: &Arc<Limits>,
        deadlines: &Rc<Deadlines>,
    ) {
        if cells.mirrors_open.get() >= UNDER_WAY_MAX {
            cells.mirrors_skipped.add(1);
            return;
        }
        let framing = match (x.request.method, body.len() as u64) {
            (Method::POST | Method::PUT | Method::PATCH, 0) => Framing::Length(0),
            (_, 0) => Framing::None,
            (_, length) => Framing::Length(length),
        };
        if let Some(yes) = FieldValue::new(b"1") {
            x.request.fields.set(&self.mark, yes);
        }
        let head = Prepared::new(&x.request, framing, !host.keeps(), host.may_share());
        x.request.fields.remove(&self.mark);
        let copy = Copy {
            host: Rc::clone(host),
            from: dial::preface_of(x),
            head,
            body: body.to_vec(),
            method: x.request.method,
            limits: Arc::clone(limits),
            deadline: deadlines.add(),
            clock: Clock::new(),
        };
        let open = Open::new(cells);
        tokio::task::spawn_local(async move {
            match copy.ask().await {
                Ok(()) => open.0.mirrored.add(1),
                Err(_) => open.0.mirrors_failed.add(1),
            }
        });
    }
}

/// One copy among those under way.
struct Open(Rc<PoolCells>);

impl Open {
    fn new(cells: &Rc<PoolCells>) -> Open {
        cells.mirrors_open.add(1);
        Open(Rc::clone(cells))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.mirrors_open.sub(1);
    }
}

/// What has to be sent, and to whom.
struct Copy {
    host: Rc<HostPool>,
    from: Preface,
    head: Prepared,
    body: Vec<u8>,
    method: Method,
    limits: Arc<Limits>,
    deadline: Deadline,
    clock: Clock,
}

impl Copy {
    /// Sends it and reads the answer away.
    async fn ask(&self) -> Result<(), Error> {
        poll_fn(|cx| {
            self.deadline.wakes(cx);
            Poll::Ready(())
        })
        .await;
        let until = self.clock.now() + TIME_MAX;
        self.deadline.set(until);
        // Careful: a copy is sent once and no second time, so an old connection had better be alive.
        let lease = match self.host.take_idle(self.clock.now(), true, false) {
            Some(lease) => lease,
            None => self.host.connect(self.from, false, &self.deadline, &self.clock).await?,
        };
        self.over(lease, until).await
    }

    async fn over(&self, mut lease: Lease, until: Tick) -> Result<(), Error> {
        let link = lease.link().ok_or(Error::proxy(Phase::Send, Crime::Internal))?;
        self.head.send(link)?;
        let (bounds, mut response) = (HeadBounds::response(&self.limits), Response::default());
        let (asked, mut rest) = (Asked::plain(self.method), self.body.as_slice());
        let mut sent = false;
        let head = loop {
            let head = poll_fn(|cx| {
                while !rest.is_empty()
                    && let Poll::Ready(taken) = link.poll_send(cx, rest)
                {
                    rest = rest.get(taken?..).unwrap_or(&[]);
                }
                if rest.is_empty() && !std::mem::replace(&mut sent, true) {
                    link.finish(None)?;
                }
                let _ = link.poll_flush(cx)?;
                match heads::poll_answer(link, cx, asked, &mut response, &bounds, &self.limits) {
                    Poll::Pending => self.patience(until),
                    Poll::Ready(head) => Poll::Ready(head?.ok_or(failed(Crime::UpstreamClosed))),
                }
            });
            let head = head.await?;
            if !response.status.is_informational() {
                break head;
            }
        };
        self.host.cells.statuses.add(response.status);
        let mut left = ANSWER_BYTES_MAX;
        let more = poll_fn(|cx| {
            loop {
                match link.poll_data(cx) {
                    Poll::Pending => return self.patience(until),
                    Poll::Ready(Ok(true)) => {}
                    Poll::Ready(done) => return Poll::Ready(done),
                }
                let count = link.data().len();
                link.consume(count);
                match left.checked_sub(count) {
                    Some(rest) => left = rest,
                    None => return Poll::Ready(Ok(true)),
                }
            }
        });
        if !more.await? && head.keep_alive {
            lease.give_back(self.clock.now());
        }
        Ok(())
    }

    /// Pending until the time is over.
    fn patience<T>(&self, until: Tick) -> Poll<Result<T, Error>> {
        if self.clock.refresh() < until { Poll::Pending } else { Poll::Ready(Err(failed(Crime::Deadline))) }
    }
}

fn failed(crime: Crime) -> Error {
    Error::upstream(Phase::Wait, crime, Retry::Never)
}
