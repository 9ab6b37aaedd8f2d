//! breaker: how many requests a pool has at one time, and the line in which further ones wait; shared by all workers.

use crate::hosts::HostSet;
use crate::plan::{InFlight, Queue, Urgency};
use portunus_message::Tick;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

pub mod adaptive;
pub mod spread;

use adaptive::Adaptive;
use spread::Spread;

/// How long a request may wait when nothing else is written.
const WAIT: Duration = Duration::from_secs(1);
/// How many may wait.
const LENGTH: u32 = 1000;
/// A line in which somebody waited no longer than this is one that gets empty: a burst, no overload.
const CALM: Duration = Duration::from_millis(2);
/// One that does not get empty, but in which somebody waits no longer than this and which grows no more, serves everybody in time: many
/// who ask one after the other wait for each other.
const PATIENT: Duration = Duration::from_millis(250);
/// The most that a line has place for which nobody has said how long it may be: how long somebody waits says more.
const LENGTH_MOST: u32 = 10_000;
/// How often the line is looked at.
const INTERVAL: Duration = Duration::from_millis(50);
/// How long the shortest wait of every look has to be above [`PATIENT`] until the line is held to be standing: what is over
/// before, nobody is refused for.
const LATE: Duration = Duration::from_millis(750);
/// For how long it stands then, about.
const STANDING: Duration = Duration::from_secs(1);
/// At how many looks one after the other the line has to grow so fast that it would be full within [`STANDING`], though as many are
/// called as ever, until it is held to be standing without waiting for that, when half of it is taken: most of those who come will be
/// refused in any case.
const OUTRUN: u32 = 3;
/// How much less than ever still is as many.
const AS_MANY: f64 = 0.9;
/// How often the line is looked at, and for how long it has to be so, when that was so lately: a line that has just been cut
/// short grows again at once while too many come.
const AGAIN: Duration = Duration::from_millis(10);
/// How long it is "lately".
const LATELY: Duration = Duration::from_secs(2);
/// How long a request may wait in a standing line. Waiting longer would make every answer late and serve nobody more.
const STANDING_WAIT: Duration = Duration::from_millis(5);

/// How a pool bounds its requests.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// What it bounds them to.
    pub most: InFlight,
    /// Whether servers have bounds of their own.
    pub per_server: bool,
    /// How many may wait,
    pub length: u32,
    /// or more, as long as they are served in time: nobody has said how many.
    pub stretches: bool,
    /// How long each may wait.
    pub wait: Duration,
    /// Whether a standing line is cut short: nobody has said how long to wait.
    pub controlled: bool,
}

impl Bound {
    /// What the operator wants, of a pool of so many servers, so many of which have bounds of their own.
    pub fn new(queue: &Queue, servers: usize, bounded: usize) -> Bound {
        let per_server = bounded > 0;
        let most = match queue.max_in_flight {
            InFlight::Adaptive if per_server && bounded == servers => InFlight::Unlimited, // a bound has been set
            most => most,
        };
        let (wait, controlled) = (queue.wait.unwrap_or(WAIT), queue.wait.is_none());
        let stretches = queue.length.is_none() && matches!(most, InFlight::Adaptive);
        Bound { most, per_server, length: queue.length.unwrap_or(LENGTH), stretches, wait, controlled }
    }

    /// How many may wait at all.
    fn length_most(&self) -> u32 {
        if self.stretches { LENGTH_MOST } else { self.length }
    }

    /// Whether it follows what is seen.
    pub fn is_adaptive(&self) -> bool {
        matches!(self.most, InFlight::Adaptive)
    }

    /// Whether somebody has to hear of the end of a request: those who wait for a server, or for room on the pool. With an
    /// adaptive bound requests count until their answer begins, so that long answers and tunnels take nobody's place.
    pub fn is_held(&self) -> bool {
        self.per_server || matches!(self.most, InFlight::Most(_))
    }
}

/// The door of a pool. It outlives reloads that keep the pool.
#[derive(Debug)]
pub struct Gate {
    in_flight: AtomicU32,
    limit: AtomicU32,
    /// Guards what is known of how many it can take.
    adaptive: Mutex<Adaptive>,
    /// Those who wait for room on the pool.
    pub rooms: Line,
    /// Those who have room on the pool and wait for a server that has.
    pub servers: Line,
}

impl Default for Gate {
    fn default() -> Gate {
        Gate {
            in_flight: AtomicU32::new(0),
            limit: AtomicU32::new(u32::MAX),
            adaptive: Mutex::default(),
            rooms: Line::default(),
            servers: Line::default(),
        }
    }
}

impl Gate {
    /// Requests that are inside.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(SeqCst)
    }

    /// How many there may be.
    pub fn limit(&self) -> u32 {
        self.limit.load(SeqCst)
    }

    /// How many wait.
    pub fn queued(&self) -> u64 {
        (self.rooms.len() + self.servers.len()) as u64
    }

    /// Keeps to `bound` from now on; an adaptive one goes on from where it is.
    pub fn bound(&self, bound: &Bound) {
        if !bound.is_adaptive() {
            // Nobody counts answers from now on.
            self.rooms.rate.store(0, SeqCst);
            self.rooms.usual_rate.store(0, SeqCst);
        }
        match bound.most {
            InFlight::Unlimited => self.set_limit(u32::MAX),
            InFlight::Most(most) => self.set_limit(most),
            InFlight::Adaptive => {
                let limit = lock(&self.adaptive).limit();
                self.set_limit(limit);
            }
        }
    }

    /// Hears how long answers took, and how many requests there were at one time: an adaptive bound follows.
    pub fn hear(&self, seen: &Spread, most: u32, now: Tick) {
        let outrun = !self.rooms.is_empty() && self.rooms.is_outrun();
        let mut adaptive = lock(&self.adaptive);
        let limit = adaptive.hear(seen, most, outrun, now);
        let (rate, usual_rate) = adaptive.rates();
        let is_slow = adaptive.is_slow();
        drop(adaptive);
        self.rooms.rate.store(rate as u32, SeqCst);
        // While answers take no longer than usual the bound has not found itself yet, and the line says nothing of the servers.
        self.rooms.usual_rate.store(if is_slow { usual_rate as u32 } else { 0 }, SeqCst);
        self.follow(limit);
    }

    /// Hears that somebody found no room under an adaptive bound.
    pub fn hear_full(&self, now: Tick) {
        let limit = lock(&self.adaptive).hear_full(now);
        self.follow(limit);
    }

    fn follow(&self, limit: u32) {
        if limit != self.limit() {
            self.set_limit(limit);
        }
    }

    /// There may be so many from now on.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, SeqCst);
        if !self.rooms.is_empty() {
            self.settle();
        }
    }

    /// Lets one in, if there is room and nobody waits for it. Whoever is in has to [`Gate::leave`].
    pub fn enter(&self) -> bool {
        self.rooms.is_empty() && self.take_room()
    }

    /// One leaves: the next in the line has the room.
    pub fn leave(&self) {
        self.in_flight.fetch_sub(1, SeqCst);
        if !self.rooms.is_empty() {
            self.settle();
        }
    }

    /// Lets in those who wait, as far as there is room.
    pub fn settle(&self) {
        while self.take_room() {
            if !self.rooms.call_next() {
                self.in_flight.fetch_sub(1, SeqCst);
                return;
            }
        }
    }

    fn take_room(&self) -> bool {
        if self.in_flight.fetch_add(1, SeqCst) < self.limit.load(SeqCst) {
            return true;
        }
        self.in_flight.fetch_sub(1, SeqCst);
        false
    }
}

/// Those who wait: the more urgent ones first; among equals first come, first served.
#[derive(Debug, Default)]
pub struct Line {
    /// How many there are: read by everyone who comes, so that nobody has to take the lock to see that there is none.
    count: AtomicU32,
    /// The last moment anybody told.
    now: AtomicU64,
    /// How many answers a second there are; 0: nobody knows.
    rate: AtomicU32,
    /// How many there were when all was well, of late; 0: nobody knows, or all is well.
    usual_rate: AtomicU32,
    /// Guards the line and what is known of its waits.
    line: Mutex<Waits>,
}

#[derive(Debug, Default)]
struct Waits {
    /// Those of each [`Urgency`], in its order.
    places: [VecDeque<Arc<Place>>; 3],
    interval_began: Tick,
    interval_ends: Tick,
    /// The shortest wait of this interval; none when nobody was called.
    shortest: Option<Duration>,
    /// How many have come in this interval.
    joined: u32,
    /// How many were called in it.
    called: u32,
    /// Whether somebody was sent away in it because he would not have been called in time.
    turned_away: bool,
    /// At how many looks in a row it has grown too fast.
    outrun: u32,
    /// Whether it stands, or has stood lately, because of that.
    was_outrun: bool,
    /// How many may wait, before that is stretched.
    length: u32,
    stretches: bool,
    /// Since when everybody who was called had waited.
    late_since: Option<Tick>,
    is_standing: bool,
    lately_until: Tick,
    is_controlled: bool,
}

/// A place in a line.
#[derive(Debug)]
pub struct Place {
    since: Tick,
    urgency: Urgency,
    /// The servers that he has no use for; none for most.
    tried: Option<HostSet>,
    /// Guards what has become of the one who waits here, and how he is woken.
    state: Mutex<(Turn, Option<Waker>)>,
}

/// What has become of one who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// He waits.
    Waits,
    /// It is his turn; in a line for rooms, the room is his.
    Called,
    /// He is not going to be served in time.
    Shed,
    /// The line was full, and somebody more urgent has come.
    Displaced,
}

impl Line {
    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.count.load(SeqCst) == 0
    }

    /// Whether nobody waits that one who comes now must not overtake: nobody at all, or such as have use for no server with room. `fits`
    /// says who has, by what he has tried already.
    pub fn lets_pass(&self, fits: impl Fn(&HostSet) -> bool) -> bool {
        let goes_first = |place: &Arc<Place>| place.tried.as_ref().is_none_or(&fits);
        self.is_empty() || !lock(&self.line).places.iter().rev().flatten().any(goes_first)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.count.load(SeqCst) as usize
    }

    /// Takes a place at the end of those who are as urgent; or what has become of one who finds none, because there are as many as there
    /// may be and nobody is less urgent, or because he would not be called in time. One who was called in vain goes back to the front,
    /// with `since` when he first came.
    pub fn join(
        &self,
        bound: &Bound,
        urgency: Urgency,
        since: Option<Tick>,
        now: Tick,
    ) -> Result<Arc<Place>, Turn> {
        self.join_but_for(None, bound, urgency, since, now)
    }

    /// The same for one who has no use for these servers: he has `tried` them, or wants another one. In a full line those make room for
    /// who takes any.
    pub fn join_but_for(
        &self,
        tried: Option<HostSet>,
        bound: &Bound,
        urgency: Urgency,
        since: Option<Tick>,
        now: Tick,
    ) -> Result<Arc<Place>, Turn> {
        self.now.fetch_max(now.0, SeqCst);
        let mut waits = lock(&self.line);
        (waits.is_controlled, waits.length, waits.stretches) =
            (bound.controlled, bound.length, bound.stretches);
        self.shed(&mut waits);
        if since.is_none() {
            waits.joined += 1;
            if waits.is_full_for(urgency, self.rate.load(SeqCst)) {
                waits.turned_away = true;
                return Err(Turn::Shed);
            }
        }
        if waits.len() >= bound.length_most() as usize {
            // A queue of no length is no queue, for nobody.
            let lower = waits.places.iter_mut().take(urgency as usize).find_map(VecDeque::pop_back);
            let last = match since {
                // A newcomer has taken his place meanwhile.
                Some(_) => lower.or_else(|| waits.equals(urgency).pop_back()),
                None if tried.is_some() => Some(lower.ok_or(Turn::Displaced)?),
                None => Some(lower.or_else(|| waits.take_last_picky(urgency)).ok_or(Turn::Displaced)?),
            };
            if let Some(last) = last {
                self.count.fetch_sub(1, SeqCst);
                last.turn(Turn::Displaced);
            }
        }
        let state = Mutex::new((Turn::Waits, None));
        let place = Arc::new(Place { since: since.unwrap_or(now), urgency, tried, state });
        let equals = waits.equals(urgency);
        match since {
            Some(_) => equals.push_front(Arc::clone(&place)),
            None => equals.push_back(Arc::clone(&place)),
        }
        self.count.fetch_add(1, SeqCst);
        Ok(place)
    }

    /// Calls the first; `false` when nobody is there to be called.
    pub fn call_next(&self) -> bool {
        self.call(|_| true)
    }

    /// Calls the first that has use for a server with room: whoever was called before him has none. `fits` says who has, by what he has
    /// tried already.
    pub fn pass_on(&self, fits: impl Fn(&HostSet) -> bool) -> bool {
        self.call(|place| place.tried.as_ref().map_or_else(|| fits(&HostSet::default()), &fits))
    }

    fn call(&self, fits: impl Fn(&Place) -> bool) -> bool {
        let mut waits = lock(&self.line);
        self.shed(&mut waits);
        let called = waits.places.iter_mut().rev().find_map(|equals| {
            let at = equals.iter().position(|place| fits(place))?;
            equals.remove(at)
        });
        let Some(place) = called else { return false };
        self.count.fetch_sub(1, SeqCst);
        // Where urgent ones go first, the others wait at least as long as the first of them has by now.
        let next = waits.first().filter(|next| next.urgency < place.urgency);
        let waited = self.told().since(next.map_or(place.since, |next| next.since.min(place.since)));
        waits.shortest = Some(waits.shortest.map_or(waited, |shortest| shortest.min(waited)));
        waits.called += 1;
        place.turn(Turn::Called);
        true
    }

    /// Gives a place up: by whoever has waited long enough, has left, or is served.
    pub fn give_up(&self, place: &Arc<Place>) -> Turn {
        let mut waits = lock(&self.line);
        let equals = waits.equals(place.urgency);
        if let Some(at) = equals.iter().position(|known| Arc::ptr_eq(known, place)) {
            equals.remove(at);
            self.count.fetch_sub(1, SeqCst);
        }
        lock(&place.state).0
    }

    /// Whether it stands because so many come that most of them have to be refused.
    fn is_outrun(&self) -> bool {
        lock(&self.line).is_outrun()
    }

    /// Whether nobody is before this place but such as have use for no server with room.
    pub fn is_first(&self, place: &Arc<Place>, fits: impl Fn(&HostSet) -> bool) -> bool {
        let waits = lock(&self.line);
        let goes_first = |one: &&Arc<Place>| Arc::ptr_eq(one, place) || one.tried.as_ref().is_none_or(&fits);
        waits.places.iter().rev().flatten().find(goes_first).is_some_and(|one| Arc::ptr_eq(one, place))
    }

    /// Sends those away who have waited too long in a line that does not get empty (as CoDel does, RFC 8289), but for the urgent ones.
    fn shed(&self, waits: &mut Waits) {
        let now = self.told();
        if now >= waits.interval_ends {
            waits.look(now, self.usual_rate.load(SeqCst));
        }
        while waits.is_standing && waits.is_controlled {
            let late = |first: &Arc<Place>| now.since(first.since) > STANDING_WAIT;
            let [low, normal, _] = &mut waits.places;
            let place = low.pop_front_if(|first| late(first));
            let Some(place) = place.or_else(|| normal.pop_front_if(|first| late(first))) else { return };
            self.count.fetch_sub(1, SeqCst);
            place.turn(Turn::Shed);
        }
    }

    fn told(&self) -> Tick {
        Tick(self.now.load(SeqCst))
    }
}

impl Waits {
    /// An interval is over: whether everybody who was called in it had waited.
    fn look(&mut self, now: Tick, usual_rate: u32) {
        // When nobody at all was called nothing is known: a pause looks like that, and so does a line in which nobody was.
        let is_known = now.since(self.interval_ends) < INTERVAL;
        let shortest = self.shortest.take();
        let has_waited = |time| self.turned_away || self.len() > 0 && shortest.is_some_and(|it| it > time);
        let grows = is_known && has_waited(CALM) && self.grows_too_fast(now, usual_rate);
        let outrun = if grows { self.outrun + 1 } else { 0 };
        let is_outrun = outrun >= OUTRUN && self.len() * 2 >= self.length as usize;
        let at_once = now < self.lately_until || is_outrun;
        let is_late = is_known && has_waited(if at_once { CALM } else { PATIENT });
        self.outrun = outrun;
        self.was_outrun = is_outrun || self.was_outrun && now < self.lately_until;
        self.late_since = is_late.then(|| self.late_since.unwrap_or(now));
        let needed = if at_once { Duration::ZERO } else { LATE };
        self.is_standing = self.late_since.is_some_and(|since| now.since(since) >= needed);
        if self.is_standing {
            self.lately_until = now + LATELY;
        }
        (self.joined, self.called, self.turned_away) = (0, 0, false);
        self.interval_began = now;
        self.interval_ends = now + if now < self.lately_until { AGAIN } else { INTERVAL };
    }

    /// Whether the line has grown in this interval as one does that within [`STANDING`] is full, and holds more than are called in that
    /// time, although no fewer were called than usual. When fewer are called it is a pause, and when it is worked off, fewer come.
    fn grows_too_fast(&self, now: Tick, usual_rate: u32) -> bool {
        let seconds = now.since(self.interval_began).as_secs_f64();
        let grown = f64::from(self.joined.saturating_sub(self.called));
        let most = if self.stretches { self.length.max(usual_rate) } else { self.length };
        usual_rate > 0
            && f64::from(self.called) >= AS_MANY * f64::from(usual_rate) * seconds
            && grown * STANDING.as_secs_f64() >= f64::from(most) * seconds
    }

    /// Whether one who comes now would not be called within [`STANDING_WAIT`], as far as that is known: whoever is going to be sent away
    /// had better hear it at once.
    fn is_full_for(&self, urgency: Urgency, rate: u32) -> bool {
        let before: usize = self.places.iter().skip(urgency as usize).map(VecDeque::len).sum();
        let room = f64::from(rate) * STANDING_WAIT.as_secs_f64();
        self.is_outrun() && urgency != Urgency::High && rate > 0 && before as f64 >= room.max(1.0)
    }

    fn is_outrun(&self) -> bool {
        self.is_standing && self.is_controlled && self.was_outrun
    }

    fn len(&self) -> usize {
        self.places.iter().map(VecDeque::len).sum()
    }

    fn equals(&mut self, urgency: Urgency) -> &mut VecDeque<Arc<Place>> {
        let [low, normal, high] = &mut self.places;
        match urgency {
            Urgency::Low => low,
            Urgency::Normal => normal,
            Urgency::High => high,
        }
    }

    /// The last one of these who does not take any server: he has been served once, or will be elsewhere.
    fn take_last_picky(&mut self, urgency: Urgency) -> Option<Arc<Place>> {
        let equals = self.equals(urgency);
        let at = equals.iter().rposition(|place| place.tried.is_some())?;
        equals.remove(at)
    }

    /// Who is called next.
    fn first(&self) -> Option<&Arc<Place>> {
        self.places.iter().rev().find_map(VecDeque::front)
    }
}

impl Place {
    /// When the one who waits here came.
    pub fn since(&self) -> Tick {
        self.since
    }

    /// Ready when it is his turn, or when it will never be.
    pub fn poll(&self, cx: &Context<'_>) -> Poll<Turn> {
        let mut state = lock(&self.state);
        match state.0 {
            Turn::Waits => {
                state.1 = Some(cx.waker().clone());
                Poll::Pending
            }
            turn => Poll::Ready(turn),
        }
    }

    fn turn(&self, turn: Turn) {
        let mut state = lock(&self.state);
        state.0 = turn;
        if let Some(waker) = state.1.take() {
            waker.wake();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hosts::HostId;

    const MS: u64 = 1000;

    fn bound(length: u32, wait: Option<Duration>) -> Bound {
        Bound::new(&Queue { max_in_flight: InFlight::Most(2), length: Some(length), wait }, 1, 0)
    }

    fn turn(place: &Place) -> Turn {
        match place.poll(&Context::from_waker(Waker::noop())) {
            Poll::Ready(turn) => turn,
            Poll::Pending => Turn::Waits,
        }
    }

    #[test]
    fn what_is_of_no_use_to_the_first_is_passed_on_to_one_who_has_use_for_it() {
        let (line, bound) = (Line::default(), bound(10, Some(WAIT)));
        let join = |since, tried: &[u32]| {
            let mut all = HostSet::default();
            tried.iter().for_each(|&id| all.insert(HostId(id)));
            let all = (!tried.is_empty()).then_some(all);
            line.join_but_for(all, &bound, Urgency::Normal, since, Tick(1)).unwrap()
        };
        let has_room = |tried: &HostSet| !tried.has(HostId(0));
        let [one, two, three, four] = [&[0][..], &[0, 1], &[1], &[]].map(|tried| join(None, tried));
        assert!(line.call_next(), "nobody knows of which server");
        assert!(!line.lets_pass(has_room) && !line.lets_pass(|_| false), "one who takes any waits");
        let again = join(Some(one.since()), &[0]);
        assert!(
            line.is_first(&again, has_room)
                && line.is_first(&three, has_room)
                && !line.is_first(&four, has_room)
        );
        assert!(line.pass_on(has_room) && line.pass_on(has_room) && !line.pass_on(has_room));
        let turns = [&one, &two, &again, &three, &four].map(|place| turn(place));
        assert_eq!(turns, [Turn::Called, Turn::Waits, Turn::Waits, Turn::Called, Turn::Called]);
        assert!(line.lets_pass(has_room) && !line.lets_pass(|_| true));
    }

    #[test]
    fn rooms_are_handed_to_those_who_came_first() {
        let (gate, bound) = (Gate::default(), bound(10, Some(WAIT)));
        gate.set_limit(2);
        assert!(gate.enter() && gate.enter() && !gate.enter());
        let places: Vec<_> =
            (0..3).flat_map(|at| gate.rooms.join(&bound, Urgency::Normal, None, Tick(at))).collect();
        gate.leave();
        assert_eq!(
            places.iter().map(|place| turn(place)).collect::<Vec<_>>(),
            [Turn::Called, Turn::Waits, Turn::Waits]
        );
        assert!(!gate.enter(), "whoever comes goes behind those who wait");
        gate.leave();
        gate.leave();
        assert!(places.iter().all(|place| turn(place) == Turn::Called));
        assert_eq!((gate.in_flight(), gate.rooms.len()), (2, 0));
    }

    #[test]
    fn a_line_has_an_end() {
        let (gate, bound) = (Gate::default(), bound(2, Some(WAIT)));
        gate.set_limit(0);
        let first = gate.rooms.join(&bound, Urgency::Normal, None, Tick(0)).unwrap();
        let _second = gate.rooms.join(&bound, Urgency::Normal, None, Tick(0)).unwrap();
        assert_eq!(gate.rooms.join(&bound, Urgency::Normal, None, Tick(0)).unwrap_err(), Turn::Displaced);
        assert_eq!(gate.rooms.give_up(&first), Turn::Waits);
        assert!(gate.rooms.join(&bound, Urgency::Normal, None, Tick(0)).is_ok());
    }

    #[test]
    fn in_a_full_line_those_who_are_picky_make_room() {
        let (line, bound) = (Line::default(), bound(3, Some(WAIT)));
        let mut tried = HostSet::default();
        tried.insert(HostId(0));
        let picky = || line.join_but_for(Some(tried.clone()), &bound, Urgency::Normal, None, Tick(0));
        let any = || line.join(&bound, Urgency::Normal, None, Tick(0));
        let [first, second] = [picky().unwrap(), picky().unwrap()];
        let third = any().unwrap();
        assert_eq!(picky().unwrap_err(), Turn::Displaced);
        let fourth = any().unwrap();
        let turns = [&first, &second, &third, &fourth].map(|place| turn(place));
        assert_eq!(turns, [Turn::Waits, Turn::Displaced, Turn::Waits, Turn::Waits]);
        assert_eq!((any().is_ok(), any().unwrap_err(), line.len()), (true, Turn::Displaced, 3));
    }

    #[test]
    fn one_called_in_vain_goes_back_to_the_front() {
        let (line, bound) = (Line::default(), bound(2, Some(WAIT)));
        let first = line.join(&bound, Urgency::Normal, None, Tick(0)).unwrap();
        let second = line.join(&bound, Urgency::Normal, None, Tick(1)).unwrap();
        assert!(line.call_next() && turn(&first) == Turn::Called);
        let again = line.join(&bound, Urgency::Normal, Some(first.since()), Tick(2)).unwrap();
        assert!(line.is_first(&again, |_| true) && line.call_next());
        assert_eq!((turn(&again), turn(&second)), (Turn::Called, Turn::Waits));
        let third = line.join(&bound, Urgency::Normal, None, Tick(3)).unwrap();
        let back = line.join(&bound, Urgency::Normal, Some(again.since()), Tick(4)).unwrap();
        let turns = [&back, &second, &third].map(|place| turn(place));
        assert_eq!(turns, [Turn::Waits, Turn::Waits, Turn::Displaced], "the line has its length");
    }

    #[test]
    fn more_room_lets_more_in() {
        let (gate, bound) = (Gate::default(), bound(9, None));
        gate.set_limit(1);
        assert!(gate.enter());
        let places: Vec<_> =
            (0..3).flat_map(|_| gate.rooms.join(&bound, Urgency::Normal, None, Tick(0))).collect();
        gate.set_limit(3);
        assert_eq!(places.iter().filter(|place| turn(place) == Turn::Called).count(), 2);
        assert_eq!(gate.in_flight(), 3);
    }

    /// Arrivals every millisecond against one that is called every `step` milliseconds, for three seconds; how long the
    /// ones who were called had waited at most in the second half of it, and how many were shed.
    fn overload(step: u64, wait: Option<Duration>) -> (Duration, usize) {
        let (line, bound) = (Line::default(), bound(10_000, wait));
        let (mut places, mut refused) = (Vec::new(), 0);
        for at in 0..3000 {
            let place = line.join(&bound, Urgency::Normal, None, Tick(at * MS));
            refused += usize::from(place.is_err());
            places.extend(place.map(|place| (place, None)));
            if at % step == 0 {
                line.call_next();
            }
            for (place, called) in &mut places {
                if called.is_none() && turn(place) == Turn::Called {
                    *called = Some(Tick(at * MS));
                }
            }
        }
        let waits = places.iter().filter_map(|(place, called)| Some((*called)?.since(place.since())));
        let late = waits.skip(1500 / step as usize).max().unwrap_or_default();
        (late, refused + places.iter().filter(|(place, _)| turn(place) == Turn::Shed).count())
    }

    #[test]
    fn a_standing_line_is_cut_short_and_a_written_wait_is_kept() {
        let (late, shed) = overload(3, None);
        assert!(late <= STANDING_WAIT && shed > 500, "{late:?}, {shed} shed");
        let (late, shed) = overload(3, Some(WAIT));
        assert!(late > Duration::from_millis(500) && shed == 0, "{late:?}, {shed} shed");
    }

    /// 24 at a time, 10 ms each, 50 let in; so many come every millisecond, for a second each. Of the second half of each: how long
    /// those had waited at most who were shed or called, and how many of either kind there were.
    fn servers(phases: &[usize]) -> Vec<(Duration, usize, usize)> {
        let (gate, bound) = (Gate::default(), bound(10_000, None));
        gate.set_limit(50);
        let (mut running, mut waiting, mut inside) = (Vec::new(), Vec::new(), VecDeque::new());
        let mut seen = vec![(Duration::ZERO, 0, 0); phases.len()];
        for at in 0..phases.len() as u64 * 1000 {
            let phase = at as usize / 1000;
            // They come in bursts, between which the line may get empty.
            for _ in 0..if at % 20 == 0 { phases[phase] * 20 } else { 0 } {
                match gate.enter() {
                    true => inside.push_back(()),
                    false => match gate.rooms.join(&bound, Urgency::Normal, None, Tick(at * MS)) {
                        Ok(place) => waiting.push(place),
                        Err(_) => seen[phase].1 += usize::from(at % 1000 >= 500),
                    },
                }
            }
            let ended = running.extract_if(.., |ends| *ends <= at).count();
            (0..ended).for_each(|_| gate.leave());
            for place in waiting.extract_if(.., |place| turn(place) != Turn::Waits) {
                let is_called = turn(&place) == Turn::Called;
                inside.extend(is_called.then_some(()));
                if at % 1000 >= 500 {
                    let (longest, shed, called) = &mut seen[phase];
                    *longest = Duration::max(*longest, Tick(at * MS).since(place.since()));
                    *if is_called { called } else { shed } += 1;
                }
            }
            while running.len() < 24 && inside.pop_front().is_some() {
                running.push(at + 10);
            }
        }
        seen
    }

    #[test]
    fn a_line_that_was_cut_short_does_not_grow_long_again_while_too_many_come() {
        let [_, storm, calm] = servers(&[7, 7, 2])[..] else { panic!("three phases") };
        let (longest, shed, called) = storm;
        assert!(longest <= Duration::from_millis(40), "{longest:?}");
        assert!(shed > 2000 && called > 1100, "{shed} shed, {called} called");
        assert_eq!(calm.1, 0, "nobody is shed once no more come than can be served");
    }

    /// Of those who come, so many each millisecond, so many are called; how many of all were not served, and the longest that one who was
    /// called had waited. A line of a thousand, in front of servers that give a thousand answers a second when all is well.
    fn passed(phases: &[(u64, usize, usize)]) -> (usize, Duration) {
        let (line, bound) = (Line::default(), bound(1000, None));
        line.usual_rate.store(1000, SeqCst);
        line.rate.store(1000, SeqCst);
        let (mut places, mut unserved, mut longest, mut at) = (Vec::new(), 0, Duration::ZERO, 0);
        for &(for_ms, come, called) in phases {
            for _ in 0..for_ms {
                let now = Tick(at * MS);
                for _ in 0..come {
                    match line.join(&bound, Urgency::Normal, None, now) {
                        Ok(place) => places.push(place),
                        Err(_) => unserved += 1,
                    }
                }
                line.now.fetch_max(now.0, SeqCst);
                (0..called).for_each(|_| _ = line.call_next());
                for place in places.extract_if(.., |place| turn(place) != Turn::Waits) {
                    match turn(&place) {
                        Turn::Called => longest = longest.max(now.since(place.since())),
                        _ => unserved += 1,
                    }
                }
                at += 1;
            }
        }
        (unserved, longest)
    }

    #[test]
    fn a_line_that_would_be_full_soon_is_cut_short_soon() {
        let (unserved, longest) = passed(&[(2000, 3, 1)]);
        assert!(longest <= Duration::from_millis(320), "{longest:?}");
        assert!((3500..4100).contains(&unserved), "{unserved} of 6000");
    }

    #[test]
    fn those_who_only_wait_for_each_other_are_all_served() {
        // Two thousand who ask again as soon as they are answered, in front of one who answers ten of them each millisecond.
        let bound = Bound::new(&Queue::default(), 1, 0);
        let line = Line::default();
        let (mut places, mut asking) = (Vec::new(), 2000);
        for at in 0..4000 {
            if at == 200 {
                line.rate.store(10_000, SeqCst);
                line.usual_rate.store(10_000, SeqCst);
            }
            for _ in 0..std::mem::take(&mut asking) {
                places.push(line.join(&bound, Urgency::Normal, None, Tick(at * MS)).unwrap());
            }
            (0..10).for_each(|_| assert!(line.call_next()));
            for place in places.extract_if(.., |place| turn(place) != Turn::Waits) {
                assert_eq!(turn(&place), Turn::Called);
                asking += 1;
            }
        }
    }

    #[test]
    fn a_line_has_room_for_more_unless_it_is_written() {
        let of = |max_in_flight, length| Bound::new(&Queue { max_in_flight, length, wait: None }, 1, 0);
        let bounds = [(InFlight::Adaptive, None), (InFlight::Adaptive, Some(7)), (InFlight::Most(9), None)];
        let bounds = bounds.map(|(most, length)| of(most, length).length_most());
        assert_eq!(bounds, [LENGTH_MOST, 7, LENGTH]);
    }

    #[test]
    fn a_pause_is_waited_out_and_so_is_what_it_has_left() {
        let pause = (600, 1, 0);
        assert_eq!(passed(&[(500, 1, 1), pause, (1200, 1, 2), (500, 1, 1)]).0, 0);
        // Slower for a while, and then as before.
        assert_eq!(passed(&[(500, 1, 1), (150, 3, 0), (1000, 1, 2)]).0, 0);
    }

    #[test]
    fn a_burst_for_which_there_is_room_is_waited_out() {
        assert_eq!(passed(&[(500, 1, 1), (120, 5, 1), (1500, 0, 1)]).0, 0);
        assert_eq!(passed(&[(500, 1, 1), (240, 3, 1), (1500, 1, 2)]).0, 0);
        assert_eq!(passed(&[(500, 1, 1), (450, 2, 1), (1500, 0, 1)]).0, 0);
    }

    #[test]
    fn what_was_turned_away_long_ago_says_nothing_of_today() {
        let overload_and_quiet = [(2000, 3, 1), (10, 3, 0), (1500, 0, 2), (5000, 0, 0)];
        let before = passed(&overload_and_quiet).0;
        let burst = [(20, 3, 1), (500, 0, 1)];
        assert_eq!(passed(&[&overload_and_quiet[..], &burst].concat()).0, before);
    }

    #[test]
    fn those_who_would_be_called_later_take_nobodys_place() {
        let line = Line::default();
        line.rate.store(1000, SeqCst);
        let bound = bound(1000, None);
        for _ in 0..6 {
            line.join(&bound, Urgency::Low, None, Tick(0)).unwrap();
        }
        {
            let mut waits = lock(&line.line);
            (waits.is_standing, waits.was_outrun, waits.interval_ends) = (true, true, Tick(1_000_000));
        }
        assert_eq!(line.join(&bound, Urgency::Low, None, Tick(1)).unwrap_err(), Turn::Shed);
        assert!(line.join(&bound, Urgency::Normal, None, Tick(1)).is_ok());
    }

    #[test]
    fn a_line_from_which_nobody_is_called_is_not_cut_short() {
        let (line, bound) = (Line::default(), bound(10_000, None));
        let places: Vec<_> =
            (0..500).flat_map(|at| line.join(&bound, Urgency::Normal, None, Tick(at * MS))).collect();
        assert!(places.iter().all(|place| turn(place) == Turn::Waits));
    }

    #[test]
    fn a_burst_that_is_worked_off_is_not_shed() {
        let (line, bound) = (Line::default(), bound(10_000, None));
        let places: Vec<_> =
            (0..80).flat_map(|_| line.join(&bound, Urgency::Normal, None, Tick(0))).collect();
        for at in 1..=80 {
            line.now.store(at * MS, SeqCst);
            assert!(line.call_next());
        }
        assert!(places.iter().all(|place| turn(place) == Turn::Called));
    }

    #[test]
    fn urgent_ones_go_first_and_take_the_place_of_others() {
        let (line, bound) = (Line::default(), bound(4, Some(WAIT)));
        let join = |urgency| line.join(&bound, urgency, None, Tick(0));
        let [low, normal, other, high] =
            [Urgency::Low, Urgency::Normal, Urgency::Normal, Urgency::High].map(|it| join(it).unwrap());
        assert!(line.is_first(&high, |_| true) && join(Urgency::Low).is_err());
        let later = join(Urgency::Normal).unwrap();
        assert_eq!((turn(&low), line.len()), (Turn::Displaced, 4));
        assert!(join(Urgency::Normal).is_err(), "equals do not push each other out");
        let urgent = join(Urgency::High).unwrap();
        assert_eq!((turn(&later), turn(&other)), (Turn::Displaced, Turn::Waits), "the last one goes");
        for next in [&high, &urgent, &normal, &other] {
            assert!(line.is_first(next, |_| true) && line.call_next() && turn(next) == Turn::Called);
        }
        assert!(line.is_empty() && !line.call_next());
    }

    #[test]
    fn urgent_ones_are_not_shed_and_hide_nobody_who_waits() {
        let (line, bound) = (Line::default(), bound(10_000, None));
        let mut urgent = Vec::new();
        let mut others = Vec::new();
        for at in 0..3000 {
            let urgency = if at % 4 == 0 { Urgency::High } else { Urgency::Normal };
            let place = line.join(&bound, urgency, None, Tick(at * MS)).unwrap();
            if at % 4 == 0 {
                urgent.push(place)
            } else {
                others.push(place)
            }
            if at % 4 == 3 {
                line.call_next();
            }
        }
        assert!(urgent.iter().all(|place| turn(place) == Turn::Called));
        let shed = others.iter().filter(|place| turn(place) == Turn::Shed).count();
        assert!(shed > 500, "{shed}");
    }
}
