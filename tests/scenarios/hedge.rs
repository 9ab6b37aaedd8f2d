//! hedge: a second server is asked when the first one is slow; one answer comes, and the loser is let go.

use portunus_tests::load::side_by_side;
use portunus_tests::proxy::site;
use portunus_tests::{Answer, Origin, Proxy, eventually};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(20);

/// Answers at once, until it is told to say nothing any more.
fn moody() -> (Origin, Arc<AtomicBool>) {
    let silent = Arc::new(AtomicBool::new(false));
    let its = Arc::clone(&silent);
    let origin = Origin::script(move |connection| {
        while connection.request().is_some() {
            if its.load(SeqCst) {
                connection.until_closed();
                return;
            }
            connection.answer(Answer::text("moody"));
        }
    });
    (origin, silent)
}

/// Answers after 300 ms.
fn late() -> Origin {
    Origin::script(|connection| {
        while connection.request().is_some() {
            let waits = Instant::now() + Duration::from_millis(300);
            while Instant::now() < waits {
                std::thread::park_timeout(waits - Instant::now());
            }
            connection.answer(Answer::text("late"));
        }
    })
}

fn proxy(servers: &[&Origin], settings: &str) -> Proxy {
    let servers: String = servers.iter().map(|server| format!(" server {server}\n")).collect();
    Proxy::start(&format!("pool p {{\n{servers} {settings}\n}}\n{}", site("proxy p")))
}

/// Lets the pool learn how quick its servers are.
fn warm(proxy: &Proxy) {
    let mut client = proxy.client();
    eventually("the pool's pace", Duration::from_secs(20), || {
        (0..50).for_each(|_| drop(client.get("/warm").expect(200)));
        // A window is told when it is over, so some time has to pass, too.
        (proxy.metric("http_client_request_duration_seconds_count", &[]) >= 300.0).then_some(())
    });
}

#[test]
fn a_slow_host_is_overtaken_and_let_go() {
    let ((moody, silent), good) = (moody(), Origin::says("good"));
    let proxy = proxy(&[&moody, &good], "hedge p95 max=100ms; retry budget=100%");
    warm(&proxy);
    silent.store(true, SeqCst);
    let won = || proxy.metric("portunus_hedges_won_total", &[]);
    // While it was warming up, some were won, too: against a server that had just lost the processor.
    let (ended_before, won_before) = (moody.ended(), won());
    for number in 0..20 {
        // The other one never answers, and nothing else ends the wait for it.
        assert_eq!(proxy.get(&format!("/?id={number}")).expect(200).text(), "good");
    }
    assert!(proxy.metric("portunus_hedges_total", &[]) >= won());
    let won = won() - won_before;
    assert!(won >= 5.0, "{won}");
    eventually("the losers' ends", Duration::from_secs(5), || {
        (moody.ended() - ended_before >= won as usize).then_some(())
    });
    assert!(good.ledger().values().all(|count| *count == 1));
    let is_one = |line: &serde_json::Value| {
        line["tries"] == 2 && line["path"].as_str().is_some_and(|path| path.starts_with("/?id="))
    };
    let line = proxy.log("a hedged request", is_one);
    assert_eq!((&line["status"], &line["upstream"]), (&200.into(), &good.address().to_string().into()));
}

#[test]
fn a_hedge_that_was_won_counts_for_as_long_as_the_client_has_waited() {
    let (slow, good) = (late(), Origin::says("good"));
    // If only the second host's time counted, three of four answers would begin at once, and everybody slow would be hedged at once.
    eventually("times without a pause", SOON * 3, || {
        let proxy = proxy(&[&slow, &good], "hedge p75 max=100ms; retry budget=100%");
        let ask = || {
            let mut client = proxy.client();
            let time = |_| {
                let begun = Instant::now();
                client.get("/").expect(200);
                begun.elapsed()
            };
            (0..60).map(time).collect::<Vec<_>>()
        };
        let all: Vec<Vec<Duration>> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            all.into_iter().map(|one| one.join().expect("a client")).collect()
        });
        let slowest = all.iter().flat_map(|one| one.iter().skip(50)).max();
        // A pause of the machine is learned from, too.
        let pause = all.iter().flatten().max();
        let is_late = slowest >= Some(&Duration::from_millis(90));
        assert!(is_late || pause > Some(&Duration::from_millis(500)), "{slowest:?}");
        is_late.then_some(())
    });
}

#[test]
fn only_what_may_be_repeated_and_has_no_body_is_hedged() {
    let ((moody, silent), good) = (moody(), Origin::says("good"));
    let proxy =
        proxy(&[&moody, &good], "hedge p50 max=50ms; retry budget=100% per-try=400ms on=connect; eject off");
    silent.store(true, SeqCst);
    for number in 0..6 {
        let post = proxy.client().post(&format!("/?id=post-{number}"), "body");
        let put = format!("PUT /?id=put-{number} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
        let put = proxy.exchange(put);
        assert!([post.status, put.status].iter().all(|status| matches!(status, 200 | 504)));
        for id in [format!("post-{number}"), format!("put-{number}")] {
            let seen = |origin: &Origin| origin.ledger().get(&id).copied().unwrap_or(0);
            assert_eq!(seen(&moody) + seen(&good), 1, "{id}");
        }
    }
    assert_eq!(proxy.metric("portunus_hedges_total", &[]), 0.0);
    eventually("a GET that is hedged", SOON, || {
        proxy.get("/");
        (proxy.metric("portunus_hedges_won_total", &[]) > 0.0).then_some(())
    });
}

#[test]
fn hedges_share_the_budget_of_further_attempts() {
    let ((one, silent_one), (two, silent_two)) = (moody(), moody());
    let proxy = proxy(&[&one, &two], "hedge p95 max=30ms; retry budget=0% per-try=200ms");
    silent_one.store(true, SeqCst);
    silent_two.store(true, SeqCst);
    let mut asked = 0;
    // Where the machine stands still, an attempt may be over before it is its hedge's time.
    eventually("refused hedges", SOON, || {
        proxy.get("/").expect(504);
        asked += 1;
        (proxy.metric("portunus_hedges_refused_total", &[]) >= 3.0).then_some(())
    });
    eventually("all of them", SOON, || (one.count() + two.count() >= asked).then_some(()));
    assert_eq!(one.count() + two.count(), asked);
    assert_eq!(proxy.metric("portunus_hedges_total", &[]), 0.0);
}

#[test]
fn a_bad_answer_does_not_win_while_a_better_one_may_come() {
    let slow = late();
    let sick = Origin::serve(|_| Answer::status(503, b"sick"));
    let proxy = proxy(&[&slow, &sick], "hedge p95 max=50ms; retry budget=100%");
    let (mut number, mut hedged, mut alone) = (0, 0, 0);
    eventually("both ways", SOON, || {
        number += 1;
        let path = format!("/?id={number}");
        let text = proxy.get(&path).text();
        match proxy.log_of(&path)["tries"].as_u64() {
            Some(2) => {
                assert_eq!(text, "late");
                hedged += 1;
            }
            // Asked first, the sick one answers before anybody else is asked.
            _ => alone += usize::from(text == "sick"),
        }
        (hedged >= 2 && alone >= 2).then_some(())
    });
}

#[test]
fn when_both_fail_the_client_is_told_and_when_one_fails_the_other_answers() {
    let (silent, good) = (Origin::serve(|_| Answer::nothing()), Origin::says("good"));
    let both = proxy(&[&silent, &good], "hedge p95 max=50ms");
    for _ in 0..6 {
        assert_eq!(both.get("/").expect(200).text(), "good");
    }
    let none = proxy(&[&silent], "hedge p95 max=50ms");
    none.get("/").expect(502);
    none.expect_reason("upstream-closed");
}

#[test]
fn a_hedge_that_meets_nobody_uses_up_no_try() {
    let ((one, silent_one), (two, silent_two)) = (moody(), moody());
    let fails = Origin::script(|connection| drop(connection.request()));
    let good = Origin::says("good");
    let text = format!(
        "pool p {{\n server {fails}\n server {one} backup\n server {two} backup\n server {good} backup\n hedge p95 max=50ms; retry budget=100%\n}}\n{}",
        site("proxy p")
    );
    let proxy = Proxy::start(&text);
    silent_one.store(true, SeqCst);
    silent_two.store(true, SeqCst);
    let statuses = side_by_side(30, |_| proxy.client().patience(SOON * 2).get("/").status);
    assert_eq!(statuses, [200; 30]);
    assert!(proxy.metric("portunus_hedges_won_total", &[]) <= proxy.metric("portunus_hedges_total", &[]));
}

#[test]
fn a_route_asks_for_it_and_another_does_not() {
    let ((moody, silent), good) = (moody(), Origin::says("good"));
    let servers = format!("pool p {{\n server {moody}\n server {good}\n retry budget=100%; eject off\n}}\n");
    // Only a hedge ends the wait for who is silent on the second route, and only the bound on the third.
    let routes = "route /warm { hedge p95; proxy p }\n route /quick { hedge p90 max=100ms; proxy p }\n \
                  route /plain { retry per-try=300ms on=timeout; proxy p }";
    let proxy = Proxy::start(&format!("{servers}{}", site(routes)));
    warm(&proxy);
    silent.store(true, SeqCst);
    let (before, count) = (proxy.metric("portunus_hedges_won_total", &[]), moody.count());
    (0..6).for_each(|_| _ = proxy.get("/quick").expect(200));
    eventually("hedges that were won", SOON, || {
        (proxy.metric("portunus_hedges_won_total", &[]) >= before + 3.0).then_some(())
    });
    let (hedges, quick) = (proxy.metric("portunus_hedges_total", &[]), moody.count());
    assert!(quick >= count + 3);
    let begun = Instant::now();
    (0..6).for_each(|_| assert!(matches!(proxy.get("/plain").status, 200 | 504)));
    assert!(begun.elapsed() >= Duration::from_millis(3 * 300) && moody.count() >= quick + 3);
    assert_eq!(proxy.metric("portunus_hedges_total", &[]), hedges);
}

#[test]
fn a_kept_connection_that_is_read_and_closed_costs_no_answer_where_nobody_else_is_left() {
    let origin = Origin::script(|connection| {
        if connection.request().is_some() {
            connection.answer(Answer::text("ok"));
            connection.request();
        }
    });
    let proxy = proxy(&[&origin], "hedge p95 max=50ms; eject off; retry budget=100%");
    (0..8).for_each(|_| _ = proxy.get("/").expect(200));
}
