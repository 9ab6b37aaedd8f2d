//! HTTP/1: heads are read one after the other, each exchange is served to its end before the next is looked at.

use super::guard::{End, Guarded};
use super::h2::{self, PREFACE};
use crate::call::Call;
use crate::client::{Active, Client, Quiet, Scratch};
use crate::link::{H1, Link};
use crate::net::Front;
use crate::pressure::Level;
use crate::run::Run;
use crate::serve;
use crate::tally;
use crate::worker::{Seat, Worker};
use portunus_message::{Crime, Error, Exchange, Limits, Phase, Protocol, Request, RequestId, Scheme};
use portunus_wire::h1::{HeadBounds, RequestHead, Version, parse};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// How long a connection may be quiet before the memory of its exchanges is given back.
const DOZE_AFTER: Duration = Duration::from_secs(1);

/// What became of a connection.
enum Then {
    /// It is quiet: it can wait without the memory of an exchange.
    Doze,
    /// It is over.
    Close,
    /// The client speaks HTTP/2.
    Other,
}

/// Serves one client connection to its end. While it is quiet, it holds little more than its socket.
#[allow(clippy::manual_async_fn)]
pub fn connection(mut quiet: Quiet, worker: Rc<Worker>, seat: Seat) -> impl Future<Output = ()> {
    // Not an `async fn`: that would keep its arguments twice, for as long as the connection lives.
    async move {
        let _ = &seat; // it is held as long as this lives
        quiet.deadline.set(quiet.opened + worker.limits().header_time);
        while wait(&quiet, &worker).await {
            let mut active = worker.take_active();
            let key = quiet.deadline.key();
            active.client = Some(Client::wake(quiet, Rc::clone(&worker.buffers)));
            let guarded = Guarded { future: Box::pin(busy(&mut active, &worker)), worker: &worker, key };
            let then = match guarded.await {
                End::Done(then) => then,
                End::Panicked => return Box::pin(after(Crime::Panic, active, &worker)).await,
                End::Cut => return Box::pin(after(Crime::Stopping, active, &worker)).await,
            };
            if let Then::Other = then {
                return other(active, worker, seat);
            }
            match settle(then, active, &worker) {
                Some(same) => quiet = same,
                None => return,
            }
        }
    }
}

/// What has come is not HTTP/1: another task goes on with it.
fn other(mut active: Box<Active>, worker: Rc<Worker>, seat: Seat) {
    let mut client = active.client.take();
    let read = client.as_mut().and_then(|client| client.link.h1()).map(H1::take_read);
    let quiet = client.and_then(Client::doze);
    worker.give_active(active);
    if let Some((quiet, read)) = quiet.zip(read) {
        tokio::task::spawn_local(h2::connection(quiet, read, worker, seat));
    }
}

/// Gives the memory back; the connection too, when it goes on.
fn settle(then: Then, mut active: Box<Active>, worker: &Worker) -> Option<Quiet> {
    let quiet = match then {
        Then::Doze => active.client.take().and_then(Client::doze),
        Then::Close | Then::Other => {
            active.client = None;
            None
        }
    };
    worker.give_active(active);
    quiet
}

/// Waits for the first byte of the next request; `false` when none will come.
async fn wait(quiet: &Quiet, worker: &Worker) -> bool {
    poll_fn(|cx| {
        quiet.deadline.wakes(cx);
        let now = worker.clock.refresh();
        if quiet.stream.poll_readable(cx).is_ready() {
            return Poll::Ready(true);
        }
        let away_at = worker.sends_away_at(quiet.requests, quiet.opened);
        if now >= away_at {
            return Poll::Ready(false);
        }
        if now >= quiet.deadline.at() {
            worker.cells.crime(if quiet.requests == 0 { Crime::HeadTimeout } else { Crime::Idle });
            return Poll::Ready(false);
        }
        quiet.deadline.set(quiet.deadline.at().min(away_at).min(worker.tight_until(now)));
        Poll::Pending
    })
    .await
}

/// Serves requests until the connection is quiet or over.
async fn busy(active: &mut Active, worker: &Worker) -> Then {
    let Active { client: Some(client), exchange: x, scratch } = active else { return Then::Close };
    loop {
        let head = match next_head(x, client, worker).await {
            Ok(Some(head)) => head,
            Ok(None) if client.keep_alive => return Then::Doze,
            Ok(None) => break,
            Err(error) if error.crime == Crime::MethodRefused && knows_h2(client, worker) => {
                return Then::Other;
            }
            Err(error) => {
                bad_head(x, client, error, worker).await;
                break;
            }
        };
        exchange(x, client, scratch, head, worker).await;
        if !client.keep_alive {
            break;
        }
        client.link.rest();
    }
    linger(client, worker).await;
    Then::Close
}

/// Whether a client speaks HTTP/2 without having asked whether we do (RFC 9113 §3.3). Under TLS it would have asked.
fn knows_h2(client: &mut Client, worker: &Worker) -> bool {
    let begins = |link: &mut H1| link.here().starts_with(PREFACE.get(..PREFACE_LINES).unwrap_or(PREFACE));
    let may = client.requests == 0 && client.secured.is_none() && worker.limits().streams > 0;
    may && client.link.h1().is_some_and(begins)
}

/// The part of the preface that looks like a head.
const PREFACE_LINES: usize = 18;

/// Reads the next head into the exchange's request. `None`: the client is quiet (then `keep_alive` still holds), or gone.
async fn next_head(
    x: &mut Exchange,
    client: &mut Client,
    worker: &Worker,
) -> Result<Option<RequestHead>, Error> {
    x.clear();
    let limits = worker.limits();
    let bounds = HeadBounds::request(&limits);
    let fresh = client.requests == 0;
    let scheme = if client.secured.is_some() { Scheme::Https } else { Scheme::Http };
    let mut began = client.link.has_more().then(|| worker.clock.now());
    client.began = worker.clock.now();
    let quiet_since = worker.clock.now();
    let doze_at = quiet_since + if worker.is_crowded() { Duration::ZERO } else { DOZE_AFTER };
    let mut first = true;
    let mut again = false;
    let Link::H1(link) = &mut client.link else { return Ok(None) };
    poll_fn(|cx| {
        // The first look follows at once on what came before, whose time is still good.
        let now = if std::mem::take(&mut first) { worker.clock.now() } else { worker.clock.refresh() };
        let found = link.poll_head(cx, &bounds, |bytes| {
            if std::mem::replace(&mut again, true) {
                x.request.clear();
            }
            read(bytes, &mut x.request, scheme, &limits)
        });
        match found {
            Poll::Ready(Ok(Some(head))) => {
                client.began = began.unwrap_or(now);
                return Poll::Ready(Ok(Some(head)));
            }
            Poll::Ready(Ok(None)) => {
                client.keep_alive = false;
                return Poll::Ready(Ok(None));
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {}
        }
        if began.is_none() && link.has_more() {
            began = Some(now);
        }
        match began {
            Some(began) => {
                let until = if fresh { client.opened } else { began } + limits.header_time;
                if now >= until {
                    client.began = began;
                    return Poll::Ready(Err(Error::client(Phase::Head, Crime::HeadTimeout)));
                }
                client.deadline.set(until);
            }
            None if now >= worker.sends_away_at(client.requests, client.opened) => {
                client.keep_alive = false;
                return Poll::Ready(Ok(None));
            }
            None if now >= doze_at => {
                let until = if fresh {
                    client.opened + limits.header_time
                } else {
                    quiet_since + worker.keep_alive()
                };
                client.deadline.set(until);
                return Poll::Ready(Ok(None));
            }
            None => client.deadline.set(doze_at.min(worker.sends_away_at(client.requests, client.opened))),
        }
        Poll::Pending
    })
    .await
}

fn read(
    bytes: &[u8],
    request: &mut Request,
    scheme: Scheme,
    limits: &Limits,
) -> Result<(RequestHead, usize), Error> {
    match parse::request(bytes, request, scheme, limits) {
        Ok(head) => Ok((head, head.length)),
        Err(crime) => Err(Error::client(Phase::Head, crime)),
    }
}

/// One request whose head has been read.
async fn exchange(
    x: &mut Exchange,
    client: &mut Client,
    scratch: &mut Scratch,
    head: RequestHead,
    worker: &Worker,
) {
    let run = worker.run();
    begin(x, client, worker);
    client.version = head.version;
    x.protocol = match head.version {
        Version::Http10 => Protocol::Http10,
        Version::Http11 => Protocol::Http11,
    };
    client.keep_alive = head.keep_alive;
    client.expects_continue = head.expects_continue;
    if let Some(link) = client.link.h1() {
        link.expect_body(head.framing, &x.request.fields, &run.limits);
    }
    worker.cells.underscores_dropped.add(head.underscores_dropped.into());
    x.times.head = Some(worker.clock.now());
    if worker.level() >= Level::Refusing {
        let error = Error::proxy(Phase::Head, Crime::LowMemory);
        return refuse(x, client, error, &run, worker).await;
    }
    serve::serve(&mut Call { x, client, scratch, run: &run, worker }).await;
}

/// A head that never became whole, or broke a rule.
async fn bad_head(x: &mut Exchange, client: &mut Client, error: Error, worker: &Worker) {
    let run = worker.run();
    begin(x, client, worker);
    refuse(x, client, error, &run, worker).await;
}

/// Answers a head that cannot be served, and closes: nothing that follows it can be trusted (attack A36).
async fn refuse(x: &mut Exchange, client: &mut Client, error: Error, run: &Run, worker: &Worker) {
    client.keep_alive = false;
    x.error = Some(error);
    if error.crime != Crime::ClientGone {
        let _ = serve::refuse(x, client, error, worker).await;
    }
    x.sent.get_or_insert(error.crime.status());
    tally::close(x, run, worker);
}

fn begin(x: &mut Exchange, client: &mut Client, worker: &Worker) {
    client.deadline.allow_usual();
    x.peer = client.peer;
    x.proof = client.secured.as_ref().map(|secured| Arc::clone(&secured.proof));
    x.id = RequestId(u128::from(worker.random()) << 64 | u128::from(worker.random()));
    x.times.began = client.began;
    client.begin();
    worker.cells.active.add(1);
}

/// Ends the connection so that the last answer is not lost to a reset: our half first, then what the client still
/// sends is read for a while (RFC 9112 §9.6). Not where the end has to be a reset.
async fn linger(client: &mut Client, worker: &Worker) {
    let Link::H1(link) = &mut client.link else { return };
    let is_over = link.is_read() && !link.has_more() && link.stream.front() == Front::Quiet;
    if is_over || link.is_cut() {
        return;
    }
    let limits = worker.limits();
    let until = worker.clock.now() + worker.at_most(limits.linger);
    client.deadline.set(until);
    link.forget();
    link.expect_raw();
    let mut left = limits.drain_bytes * 16;
    let mut ended = false;
    poll_fn(|cx| {
        client.deadline.wakes(cx);
        if !ended {
            match link.stream.poll_end(cx) {
                Poll::Ready(Ok(())) => ended = true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
        loop {
            match link.poll_data(cx) {
                Poll::Ready(Ok(true)) => {
                    let count = link.data().len();
                    link.consume(count);
                    left = left.saturating_sub(count);
                    if left == 0 {
                        return Poll::Ready(());
                    }
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending if worker.clock.refresh() >= until => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
}

/// A bug of ours, or the end of the program, has ended an exchange: it is answered if it can be, counted, and costs nobody else anything.
async fn after(crime: Crime, mut active: Box<Active>, worker: &Worker) {
    let Active { client: Some(client), exchange: x, .. } = &mut *active else { return };
    let phase = if crime == Crime::Panic { Phase::Tally } else { Phase::Body };
    let error = Error::proxy(phase, crime);
    let run = worker.run();
    // It has a number from its begin to its record.
    let is_under_way = x.id != RequestId::default() && x.times.ended.is_none();
    if is_under_way && !client.answered {
        client.link.forget();
        client.keep_alive = false;
        let _ = serve::refuse(x, client, error, worker).await;
    } else if is_under_way {
        client.link.reset_on_drop(); // a plain end might look like the end of the body (attack A45)
    }
    if is_under_way {
        x.error = Some(error);
        tally::close(x, &run, worker);
    }
    linger(client, worker).await;
    active.client = None;
    worker.give_active(active);
}
