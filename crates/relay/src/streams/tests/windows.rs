//! windows: what is sent and taken keeps to them, and costs no memory beyond; nobody who waits for room is forgotten.

use super::super::outgoing::TURN_MAX;
use super::*;
use crate::link::Front;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Woken>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn b12_nothing_is_sent_beyond_the_windows() {
    let streams = begun();
    let (one, two) = (begin(&streams, &get(1)), begin(&streams, &get(3)));
    assert_eq!(send(&streams, &one, 40_000), Some(40_000));
    said(&streams);
    assert_eq!(send(&streams, &two, 40_000), Some(25_535), "what is left of the connection's window");
    assert_eq!(send(&streams, &two, 1), None);
    let all: usize = said(&streams).iter().map(|(head, _)| head.length).sum();
    assert_eq!(all, 25_535);
    hear(&streams, &made(Kind::WindowUpdate, 0, 0, &[0, 1, 0, 0]));
    assert_eq!(send(&streams, &two, 50_000), Some(40_000), "what is left of the stream's");
    said(&streams);
    // RFC 9113 §6.9.2: a window may be owed.
    hear(&streams, &made(Kind::Settings, 0, 0, &[0, 4, 0, 0, 0, 0]));
    assert_eq!(two.window_out.get(), -65_535);
    assert_eq!((send(&streams, &two, 1), send(&streams, &one, 1)), (None, None));
    hear(&streams, &made(Kind::WindowUpdate, 0, 3, &[0, 1, 0, 0]));
    assert_eq!(send(&streams, &two, 9), Some(1));
}

#[test]
fn no_more_waits_for_the_socket_than_is_good() {
    let streams = begun();
    hear(&streams, &made(Kind::Settings, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]));
    hear(&streams, &made(Kind::WindowUpdate, 0, 0, &[0x7f, 0, 0, 0]));
    said(&streams);
    let (one, two) = (begin(&streams, &get(1)), begin(&streams, &get(3)));
    let taken = send(&streams, &one, 1 << 20).expect("room");
    assert!((60_000..70_000).contains(&taken), "{taken}");
    assert_eq!((send(&streams, &one, 1), send(&streams, &two, 1)), (None, None));
    assert_eq!(streams.inner.borrow().outgoing.in_line(), 2);
    // One that is over stands in nobody's way.
    streams.leave(&one, 0, Code::INTERNAL_ERROR);
    said(&streams);
    streams.inner.borrow_mut().outgoing.wake_waiting();
    assert_eq!(streams.inner.borrow().outgoing.in_line(), 0);
    assert_eq!(send(&streams, &two, 10), Some(10));
}

#[test]
fn what_has_been_sent_takes_no_memory_however_slowly_a_client_reads() {
    let streams = begun();
    hear(&streams, &made(Kind::Settings, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]));
    hear(&streams, &made(Kind::WindowUpdate, 0, 0, &[0x7f, 0, 0, 0]));
    let stream = begin(&streams, &get(1));
    for _ in 0..1000 {
        send(&streams, &stream, 1 << 20);
        let outgoing = &mut streams.inner.borrow_mut().outgoing;
        outgoing.has_taken(10_000); // there is always more
        outgoing.let_go();
        assert!(outgoing.out.len() < 200_000, "{}", outgoing.out.len());
    }
    // The end is still said with the last frame.
    streams.finish(&stream, None);
    let outgoing = &mut streams.inner.borrow_mut().outgoing;
    let last = outgoing.out.len() - outgoing.out.iter().rev().take_while(|byte| **byte == b'x').count();
    let head = FrameHead::read(outgoing.out[last - HEAD_BYTES..last].try_into().expect("a head"));
    assert_eq!((head.kind, head.flags, head.stream), (Kind::Data, END_STREAM, 1));
}

#[test]
fn what_was_used_of_a_body_takes_no_memory_however_slowly_it_is_read() {
    let streams = Rc::new(begun());
    let stream = begin(&streams, &ask(1, "POST", None, 0));
    let mut front = Front::new(Rc::clone(&streams), Rc::clone(&stream), true);
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..1000 {
        while stream.window_in.get() >= 10_000 {
            hear(&streams, &made(Kind::Data, 0, 1, &[b'x'; 10_000]));
        }
        assert!(matches!(front.poll_data(&mut cx), Poll::Ready(Ok(true))));
        front.gather();
        front.consume(9_999); // there is always more
        assert!(front.memory() < 300_000, "{}", front.memory());
        said(&streams);
    }
}

#[test]
fn what_was_taken_may_be_sent_again() {
    let streams = begun();
    let (window, whole) = (streams.limits.stream_window, streams.limits.connection_window);
    let stream = begin(&streams, &ask(1, "POST", None, 0));
    for _ in 0..4 {
        hear(&streams, &made(Kind::Data, 0, 1, &[b'x'; 16 << 10]));
    }
    assert_eq!(stream.window_in.get(), window as i64 - (64 << 10));
    stream.take(&mut Vec::new());
    streams.taken(&stream, 20_000);
    assert!(said(&streams).is_empty(), "too little to speak of");
    streams.taken(&stream, 20_000);
    let told = said(&streams);
    assert_eq!(
        (told[0].0.kind, told[0].0.stream, told[0].1.as_slice()),
        (Kind::WindowUpdate, 1, &[0, 0, 156, 64][..])
    );
    // What nobody takes makes room on the connection for what others send.
    streams.leave(&stream, 25_536, Code::INTERNAL_ERROR);
    let left = streams.inner.borrow().incoming.window_now();
    assert_eq!(left, whole as i64, "all of it is there again, told or not");
}

#[test]
fn b16_what_nobody_takes_makes_room_whenever_it_comes() {
    let streams = begun();
    let whole = streams.limits.connection_window as i64;
    let ways: [fn(&Streams, &Rc<Stream>); 4] = [
        |streams, stream| streams.leave(stream, 0, Code::INTERNAL_ERROR),
        |streams, stream| {
            answer(streams, stream);
            streams.finish(stream, None);
            streams.leave(stream, 0, Code::INTERNAL_ERROR);
        },
        |streams, stream| {
            hear(streams, &made(Kind::Reset, 0, stream.id, &[0; 4]));
            streams.leave(stream, 0, Code::INTERNAL_ERROR);
        },
        |streams, stream| {
            hear(streams, &made(Kind::WindowUpdate, 0, stream.id, &[0; 4]));
            streams.leave(stream, 0, Code::INTERNAL_ERROR);
        },
    ];
    // Between two frames, and in the middle of one; only a reset of the client's cannot come there.
    for (number, (way, cut)) in
        ways.iter().flat_map(|way| [0, 3, HEAD_BYTES, HEAD_BYTES + 1, 50].map(|cut| (way, cut))).enumerate()
    {
        let id = number as u32 * 2 + 1;
        let stream = begin(&streams, &ask(id, "POST", None, 0));
        hear(&streams, &made(Kind::Data, 0, id, &[b'x'; 1000]));
        let is_ours = number < 10;
        let mut data =
            made(Kind::Data, if number % 2 == 0 { PADDED } else { PADDED | END_STREAM }, id, &[20; 200]);
        if is_ours {
            let late = data.split_off(cut);
            hear(&streams, &data);
            way(&streams, &stream);
            hear(&streams, &late);
        } else {
            hear(&streams, &data);
            way(&streams, &stream);
        }
        assert!(streams.over().is_none(), "{number}");
        assert_eq!(streams.inner.borrow().incoming.window_now(), whole, "{number}");
    }
}

#[test]
fn no_more_is_swallowed_than_the_client_could_send_before_it_heard() {
    let given_up = || {
        let streams = begun();
        let stream = begin(&streams, &ask(1, "POST", None, 0));
        streams.leave(&stream, 0, Code::INTERNAL_ERROR);
        said(&streams);
        streams.at(Tick(25_000_000)); // a slow line
        streams
    };
    let piece = made(Kind::Data, 0, 1, &[b'x'; 16 << 10]);
    let streams = given_up();
    for _ in 0..4 {
        hear(&streams, &piece);
    }
    assert!(streams.over().is_none());
    hear(&streams, &piece);
    assert_eq!(code(&streams), Some(Code::FLOW_CONTROL_ERROR.0));
    for last in [made(Kind::Data, END_STREAM, 1, b"x"), made(Kind::Headers, END_HEADERS | END_STREAM, 1, &[])]
    {
        let streams = given_up();
        hear(&streams, &last);
        assert!(streams.over().is_none());
        hear(&streams, &piece);
        assert_eq!(code(&streams), Some(Code::STREAM_CLOSED.0));
    }
}

#[test]
fn small_windows_hold_when_the_client_has_heard_of_them() {
    let streams = begun_with(Limits { stream_window: 1000, ..Limits::default() });
    let one = begin(&streams, &ask(1, "POST", None, 0));
    hear(&streams, &made(Kind::Data, 0, 1, &[b'x'; 5000]));
    hear(&streams, &made(Kind::Settings, frame::ACK, 0, &[]));
    assert_eq!((one.fault(), one.window_in.get()), (None, -4000)); // RFC 9113 §6.9.2
    hear(&streams, &made(Kind::Data, 0, 1, &[]));
    one.take(&mut Vec::new());
    streams.taken(&one, 5000);
    assert_eq!(one.window_in.get(), 1000);
    let two = begin(&streams, &ask(3, "POST", None, 0));
    for stream in [&one, &two] {
        hear(&streams, &made(Kind::Data, 0, stream.id, &[b'x'; 1000]));
        assert_eq!(stream.fault(), None);
        hear(&streams, &made(Kind::Data, 0, stream.id, b"x"));
        assert!(stream.fault().is_some());
    }
}

#[test]
fn b17_windows_are_moved_once_a_frame() {
    let streams = begun();
    let stream = begin(&streams, &get(1));
    let woken = Arc::<Woken>::default();
    stream.wakes(&Context::from_waker(&Waker::from(Arc::clone(&woken))));
    let (least, most) = ([0, 4, 0, 0, 0, 0], [0, 4, 0, 1, 0, 0]);
    hear(&streams, &made(Kind::Settings, 0, 0, &[least, most].repeat(1000).concat()));
    assert_eq!((stream.window_out.get(), woken.0.load(Ordering::Relaxed)), (65_536, 1));
}

#[test]
fn who_cannot_use_his_turn_leaves_it_to_the_next() {
    let streams = begun();
    let all: Vec<_> = (0..20).map(|number| begin(&streams, &get(number * 2 + 1))).collect();
    for bytes in [40_000, 25_535] {
        assert_eq!(send(&streams, &all[0], bytes), Some(bytes));
        said(&streams);
    }
    hear(&streams, &made(Kind::WindowUpdate, 0, 1, &[0, 0, 0, 1]));
    said(&streams);
    for stream in &all {
        assert_eq!(send(&streams, stream, 1), None);
    }
    assert_eq!(streams.inner.borrow().outgoing.in_line(), 20);
    // The windows of all but the last are shut while they stand there.
    hear(&streams, &made(Kind::WindowUpdate, 0, 39, &[0, 1, 0, 0]));
    hear(&streams, &made(Kind::Settings, 0, 0, &[0, 4, 0, 0, 0, 0]));
    said(&streams);
    hear(&streams, &made(Kind::WindowUpdate, 0, 0, &[0, 0, 0, 1]));
    for stream in &all[..19] {
        assert_eq!(send(&streams, stream, 1), None);
    }
    assert_eq!(streams.inner.borrow().outgoing.in_line(), 0, "it is the turn of the last");
    assert_eq!(send(&streams, &all[19], 1), Some(1));
}

#[test]
fn b12_nobody_stands_in_line_who_is_gone() {
    let streams = begun();
    for number in 0..1000 {
        let stream = begin(&streams, &get(number * 2 + 1));
        while send(&streams, &stream, 30_000).is_some() {
            hear(&streams, &made(Kind::WindowUpdate, 0, stream.id, &[0, 1, 0, 0]));
            said(&streams);
        }
        assert_eq!(streams.inner.borrow().outgoing.in_line(), 1);
        streams.leave(&stream, 0, Code::INTERNAL_ERROR);
        said(&streams);
    }
    assert_eq!(streams.inner.borrow().outgoing.in_line(), 0);
}

/// Streams whose tasks send whatever they may, in the order in which they are woken, as a run queue has it.
struct Senders {
    all: Vec<(Rc<Stream>, Waker, usize)>,
    woken: Arc<Mutex<VecDeque<usize>>>,
}

/// Puts a task in the run queue.
struct Task(usize, Arc<Mutex<VecDeque<usize>>>);

impl std::task::Wake for Task {
    fn wake(self: Arc<Task>) {
        let mut woken = self.1.lock().unwrap();
        if !woken.contains(&self.0) {
            woken.push_back(self.0);
        }
    }
}

impl Senders {
    fn new(streams: &Streams, count: usize) -> Senders {
        hear(streams, &made(Kind::Settings, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]));
        said(streams);
        let mut senders = Senders { all: Vec::new(), woken: Arc::default() };
        (0..count).for_each(|_| senders.add(streams));
        senders
    }

    fn add(&mut self, streams: &Streams) {
        let at = self.all.len();
        let waker = Waker::from(Arc::new(Task(at, Arc::clone(&self.woken))));
        waker.wake_by_ref();
        self.all.push((begin(streams, &get(at as u32 * 2 + 1)), waker, 0));
    }

    fn is_woken(&self, at: usize) -> bool {
        self.woken.lock().unwrap().contains(&at)
    }

    /// Sends until nobody has anything to do; how much each has sent in all.
    fn run(&mut self, streams: &Streams) -> Vec<usize> {
        loop {
            let Some(at) = self.woken.lock().unwrap().pop_front() else { break };
            let (stream, waker, sent) = &mut self.all[at];
            if stream.left.get() {
                continue;
            }
            let cx = Context::from_waker(waker);
            while let Poll::Ready(count) = streams.poll_send(&cx, stream, &[b'x'; 40_000]) {
                *sent += count;
            }
            said(streams); // the socket takes it all
            streams.inner.borrow_mut().outgoing.wake_waiting();
        }
        self.all.iter().map(|(.., sent)| *sent).collect()
    }
}

#[test]
fn streams_take_turns_however_small_the_steps_of_the_window_are() {
    for step in [1_000, 4_000, 10_007, 16_384, 32_768, 60_000, 200_000] {
        let streams = begun();
        let mut senders = Senders::new(&streams, 5);
        senders.run(&streams);
        let mut given = 65_535;
        let more = made(Kind::WindowUpdate, 0, 0, &u32::to_be_bytes(step));
        for _ in 0..100 {
            hear(&streams, &more);
            given += step as usize;
            assert_eq!(senders.run(&streams).iter().sum::<usize>(), given, "{step}: all that may be sent is");
        }
        let sent = senders.run(&streams);
        let (least, most) = (sent.iter().min().unwrap(), sent.iter().max().unwrap());
        // Who came first had the window that there is at the beginning.
        let turn = TURN_MAX.min(step as usize);
        assert!(most - least <= 65_535 + 2 * turn, "{step}: {sent:?}");
        // A newcomer waits for no more than a turn of each of them.
        senders.add(&streams);
        let mut waited = 0;
        while senders.run(&streams)[5] == 0 {
            hear(&streams, &more);
            waited += step as usize;
            assert!(waited <= 7 * turn + step as usize, "{step}: {waited}");
        }
    }
}

#[test]
fn who_was_called_and_ends_hands_the_turn_on() {
    let streams = begun();
    let mut senders = Senders::new(&streams, 4);
    senders.run(&streams);
    let ends: [fn(&Streams, &Stream); 3] = [
        |streams, stream| streams.leave(stream, 0, Code::INTERNAL_ERROR),
        |streams, stream| {
            streams.finish(stream, None);
            stream.left.set(true);
        },
        |streams, stream| streams.leave(stream, 0, Code::NO_ERROR),
    ];
    for end in ends {
        let before: usize = senders.run(&streams).iter().sum();
        hear(&streams, &made(Kind::WindowUpdate, 0, 0, &[0, 0, 0x10, 0])); // calls the first
        let at = (0..4).find(|at| senders.is_woken(*at)).expect("one");
        end(&streams, &senders.all[at].0);
        assert_eq!(senders.run(&streams).iter().sum::<usize>() - before, 0x1000);
    }
}
