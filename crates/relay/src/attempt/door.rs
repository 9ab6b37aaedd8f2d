//! door: room on a pool, at once or after a wait; given back when it is dropped.

use super::Ask;
use crate::breaker::{Gate, Line, Place, Turn};
use crate::client::Client;
use crate::hosts::{HostId, HostSet};
use crate::plan::InFlight;
use crate::snapshot::{Pool, PoolLive};
use crate::worker::Worker;
use portunus_message::{Crime, Error, Phase, Retry, Tick};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// How often one who waits looks around by himself, should nobody call him.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Room on a pool for one request.
pub struct Room<'a> {
    pool: &'a Pool,
    counted: bool,
    /// Whether a server has been chosen, which has room again when this is over.
    has_server: bool,
}

/// The same for as long as an answer takes to its end, whatever becomes of the Snapshot.
pub struct Held {
    live: Arc<PoolLive>,
    counted: bool,
}

/// Room on `pool`, if it is there at once. Where only those count that wait for their answer to begin, one whose body
/// has not come does not: slow clients must not take the room of others.
pub fn at_once<'a>(pool: &'a Pool, client: &mut Client) -> Option<Room<'a>> {
    let counted = match pool.bound.most {
        InFlight::Unlimited => false,
        InFlight::Adaptive => client.link.is_all_here(),
        InFlight::Most(_) => true,
    };
    (!counted || pool.live.gate.enter()).then(|| Room { pool, counted, has_server: false })
}

/// Room on `pool`, as soon as it is there.
pub async fn room<'a>(ask: &mut Ask<'a>) -> Result<Room<'a>, Error> {
    let (pool, worker) = (ask.pool, ask.worker);
    if pool.bound.is_adaptive() {
        pool.live.gate.hear_full(worker.clock.now());
        if let Some(room) = at_once(pool, ask.client) {
            return Ok(room);
        }
    }
    let waits = Waits::for_room(ask, None)?;
    pool.live.gate.settle(); // room may have come between the look and the place in the line
    let room = |_: &Waits<'_>| false;
    waits.until_called(ask, room).await?;
    Ok(Room { pool, counted: true, has_server: false })
}

/// Waits until one of the pool's servers that are not among those `tried` may have room, or `home`, which may take nobody new. `since`: one who
/// was called in vain waits on.
pub async fn server(
    ask: &mut Ask<'_>,
    tried: HostSet,
    home: Option<HostId>,
    since: Option<Tick>,
) -> Result<Tick, Error> {
    let (pool, worker) = (ask.pool, ask.worker);
    let waits = Waits::for_server(ask, &tried, since)?;
    let since = waits.place.since();
    let room = |waits: &Waits<'_>| {
        let mut open = pool.hosts.open(worker.clock.now());
        if let Some(home) = home.filter(|&home| pool.hosts.get(home).is_some_and(|host| !host.is_full())) {
            open.insert(home);
        }
        let fits = |tried: &HostSet| open.has_beside(tried);
        fits(&tried) && waits.line().is_first(&waits.place, fits)
    };
    waits.until_called(ask, room).await?;
    Ok(since)
}

/// Why one who waits is not served any more, if so.
fn refused(turn: Turn) -> Option<Crime> {
    match turn {
        Turn::Shed => Some(Crime::Overloaded),
        Turn::Displaced => Some(Crime::QueueFull),
        Turn::Waits | Turn::Called => None,
    }
}

/// A wait that can be given up at any time, and passes on what was meant for it.
struct Waits<'a> {
    pool: &'a Pool,
    gate: &'a Gate,
    for_server: bool,
    place: Arc<Place>,
    is_served: bool,
}

impl<'a> Waits<'a> {
    fn for_room(ask: &Ask<'a>, since: Option<Tick>) -> Result<Waits<'a>, Error> {
        let (line, now) = (&ask.pool.live.gate.rooms, ask.worker.clock.now());
        Waits::at(ask, false, line.join(&ask.pool.bound, ask.route.urgency, since, now))
    }

    fn for_server(ask: &Ask<'a>, tried: &HostSet, since: Option<Tick>) -> Result<Waits<'a>, Error> {
        let (line, now) = (&ask.pool.live.gate.servers, ask.worker.clock.now());
        let tried = (!tried.is_empty()).then(|| tried.clone());
        let place = line.join_but_for(tried, &ask.pool.bound, ask.route.urgency, since, now);
        Waits::at(ask, true, place)
    }

    fn at(ask: &Ask<'a>, for_server: bool, place: Result<Arc<Place>, Turn>) -> Result<Waits<'a>, Error> {
        let full = |turn| Error::proxy(Phase::Pick, refused(turn).unwrap_or(Crime::QueueFull));
        let place = place.map_err(full)?;
        Ok(Waits { pool: ask.pool, gate: &ask.pool.live.gate, for_server, place, is_served: false })
    }

    fn line(&self) -> &'a Line {
        if self.for_server { &self.gate.servers } else { &self.gate.rooms }
    }

    /// Waits for its turn; for less, when the client leaves or the time is over. `room` is what it looks for by itself.
    async fn until_called(
        mut self,
        ask: &mut Ask<'_>,
        room: impl Fn(&Waits<'_>) -> bool,
    ) -> Result<(), Error> {
        let until = self.place.since() + self.pool.bound.wait;
        let deadline = ask.request_deadline();
        poll_fn(|cx| self.poll(cx, ask.client, ask.worker, until, deadline, &room)).await
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client,
        worker: &Worker,
        until: Tick,
        deadline: Tick,
        room: &dyn Fn(&Waits<'_>) -> bool,
    ) -> Poll<Result<(), Error>> {
        let ours = |crime| Poll::Ready(Err(Error::proxy(Phase::Pick, crime)));
        match self.place.poll(cx) {
            Poll::Ready(turn) => match refused(turn) {
                Some(crime) => return ours(crime),
                None => {
                    self.is_served = true;
                    return Poll::Ready(Ok(()));
                }
            },
            Poll::Pending => {}
        }
        let now = worker.clock.refresh();
        if let Poll::Ready(error) = client.poll_gone(cx, now) {
            return Poll::Ready(Err(error));
        }
        if client.has_ended() {
            // It may want its answer all the same, but others surely do.
            return Poll::Ready(Err(Error::client(Phase::Pick, Crime::ClientGone)));
        }
        if now >= deadline {
            return Poll::Ready(Err(Error::upstream(Phase::Pick, Crime::Deadline, Retry::Never)));
        }
        if now >= until {
            return ours(Crime::QueueTimeout);
        }
        if !self.for_server {
            if self.pool.bound.is_adaptive() {
                self.gate.hear_full(now); // nobody else may come to ask for it
            }
            self.gate.settle();
        } else if room(self) {
            self.is_served = true;
            return Poll::Ready(Ok(()));
        }
        client.deadline.set(until.min(deadline).min(client.patience_ends()).min(now + LOOK_EVERY));
        Poll::Pending
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let turn = self.line().give_up(&self.place);
        if turn != Turn::Called || self.is_served {
            return;
        }
        if self.for_server {
            self.gate.servers.call_next();
        } else {
            self.gate.leave();
        }
    }
}

impl Room<'_> {
    /// Whether it was taken from others.
    pub fn is_counted(&self) -> bool {
        self.counted
    }

    /// A server has been chosen.
    pub fn has_server(&mut self) {
        self.has_server = true;
    }

    /// Gives it to others; says whether there was any. A server that is waited for may be the only one that is busy.
    pub fn lend(&mut self) -> bool {
        let lends = std::mem::take(&mut self.counted);
        if lends {
            self.pool.live.gate.leave();
        }
        lends
    }

    /// Takes room again, as soon as it is there, before those who have had none yet. Whoever was called for a server passes that on meanwhile.
    pub async fn enter_again(&mut self, ask: &mut Ask<'_>) -> Result<(), Error> {
        let now = ask.worker.clock.now();
        if !self.pool.live.gate.enter() {
            pass_on(self.pool, now);
            let waits = Waits::for_room(ask, Some(now))?;
            self.pool.live.gate.settle();
            waits.until_called(ask, |_| false).await?;
        }
        self.counted = true;
        Ok(())
    }

    /// The same to the end of the answer, where the pool, or a server of it, counts requests to their end; otherwise the room is free
    /// now, and that of an adaptive pool is in any case.
    pub fn hold(mut self) -> Option<Held> {
        let bound = &self.pool.bound;
        if !bound.is_held() {
            return None;
        }
        let counted = !bound.is_adaptive() && std::mem::take(&mut self.counted);
        self.has_server = false;
        Some(Held { live: Arc::clone(&self.pool.live), counted })
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        leave(&self.pool.live.gate, self.counted, self.has_server);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        leave(&self.live.gate, self.counted, true);
    }
}

/// Whoever waits for a server is called when there may be room on one, and not because another has found none: called in
/// vain, he would go back to his place, which a newcomer has taken meanwhile.
fn leave(gate: &Gate, counted: bool, had_server: bool) {
    if counted {
        gate.leave();
    }
    if had_server {
        call_next(gate);
    }
}

/// There may be room on servers of `pool`: whoever waits first of those who have use for it is called.
pub fn pass_on(pool: &Pool, now: Tick) {
    let servers = &pool.live.gate.servers;
    if !servers.is_empty() {
        let open = pool.hosts.open(now);
        servers.pass_on(|tried| open.has_beside(tried));
    }
}

/// A server of `pool` has been left for another one.
pub fn server_has_room(pool: &Pool) {
    call_next(&pool.live.gate);
}

fn call_next(gate: &Gate) {
    if !gate.servers.is_empty() {
        gate.servers.call_next();
    }
}
