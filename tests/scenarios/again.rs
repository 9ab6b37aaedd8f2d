//! again: what is tried again and what is not, row by row; the budget; bounds of one attempt; hosts that ask to be left alone.

use portunus_tests::load::{Load, get};
use portunus_tests::proxy::site;
use portunus_tests::{Answer, Blackhole, Origin, Port, Proxy, eventually};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(20);

/// A proxy for these servers.
fn pool(servers: &[&Origin], settings: &str) -> Proxy {
    Proxy::start(&format!("{}{}", pool_text(servers, settings), site("proxy p")))
}

fn pool_text(servers: &[&Origin], settings: &str) -> String {
    let servers: String = servers.iter().map(|server| format!(" server {server}\n")).collect();
    format!("pool p {{\n{servers} {settings}\n}}\n")
}

/// How often `id` arrived, at all of them.
fn seen(origins: &[&Origin], id: &str) -> usize {
    origins.iter().map(|origin| origin.ledger().get(id).copied().unwrap_or(0)).sum()
}

fn sick(status: u16) -> Origin {
    Origin::serve(move |_| Answer::status(status, b"sick"))
}

/// Takes requests and never says a word.
fn frozen() -> Origin {
    Origin::script(|connection| {
        connection.request();
        connection.until_closed();
    })
}

fn post(id: &str, more: &str) -> String {
    format!("POST /?id={id} HTTP/1.1\r\nHost: a\r\n{more}Content-Length: 4\r\n\r\nbody")
}

#[test]
fn an_answer_whose_status_is_named_is_not_passed_on() {
    for status in [429, 500, 502, 503, 504] {
        let (sick, good) = (sick(status), Origin::serve(|request| Answer::body(&request.body)));
        let proxy = pool(&[&sick, &good], &format!("retry on={status}"));
        for number in 0..4 {
            let put = format!("PUT /?id={number} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
            assert_eq!(proxy.exchange(put).expect(200).text(), "hello");
        }
        assert_eq!(sick.count(), 2, "every second one was asked there first");
        assert_eq!(proxy.log("a second attempt", |line| line["tries"] == 2)["status"], 200);
    }
}

#[test]
fn an_answer_whose_status_is_not_named_is_passed_on() {
    let (sick, good) = (sick(503), Origin::says("good"));
    let proxy = pool(&[&sick, &good], "retry on=connect,500");
    let statuses: Vec<u16> = (0..10).map(|_| proxy.get("/").status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 503).count(), 5, "{statuses:?}");
}

#[test]
fn the_answer_that_came_is_passed_on_when_no_other_host_is_left() {
    let (one, two) = (sick(503), sick(503));
    let proxy = pool(&[&one, &two], "retry tries=5 on=503");
    assert_eq!(proxy.get("/?id=x").expect(503).text(), "sick");
    assert_eq!((seen(&[&one], "x"), seen(&[&two], "x")), (1, 1));
}

#[test]
fn a_long_answer_that_is_not_passed_on_costs_its_connection_only() {
    let sick = Origin::serve(|_| Answer::raw("HTTP/1.1 503 X\r\nContent-Length: 1000000\r\n\r\nbegun"));
    let good = Origin::says("good");
    let proxy = pool(&[&sick, &good], "retry on=503");
    let mut client = proxy.client();
    for _ in 0..10 {
        assert_eq!(client.get("/").expect(200).text(), "good");
    }
    assert_eq!(sick.connections(), 5, "what is left of an answer is never taken for another");
}

#[test]
fn a_post_that_a_host_has_seen_is_never_sent_twice() {
    let silent = Origin::serve(|_| Answer::nothing());
    let origins = [sick(503), silent, frozen()];
    let all: Vec<&Origin> = origins.iter().collect();
    let proxy = pool(&all, "retry tries=4 per-try=300ms on=connect,reset,timeout,503");
    for number in 0..9 {
        let status = proxy.exchange(post(&number.to_string(), "")).status;
        assert!(matches!(status, 502..=504), "{status}");
        let id = number.to_string();
        eventually("the request at a host", SOON, || (seen(&all, &id) > 0).then_some(()));
    }
    proxy.expect_reason("try-timeout");
    proxy.expect_reason("upstream-closed");
    (0..9).for_each(|number| assert_eq!(seen(&all, &number.to_string()), 1, "{number}"));
}

#[test]
fn a_post_with_a_key_is_sent_again_where_the_pool_says_so() {
    let (silent, good) =
        (Origin::serve(|_| Answer::nothing()), Origin::serve(|request| Answer::body(&request.body)));
    let proxy = pool(&[&silent, &good], "retry non-idempotent=key; eject off");
    for number in 0..6 {
        let id = format!("key-{number}");
        let answer = proxy.exchange(post(&id, "Idempotency-Key: 7\r\n")).expect(200);
        assert_eq!((answer.text(), seen(&[&good], &id)), ("body".to_owned(), 1));
    }
    let statuses: Vec<u16> =
        (0..6).map(|number| proxy.exchange(post(&number.to_string(), "")).status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 502).count(), 3, "{statuses:?}");
    let always = pool(&[&silent, &good], "retry non-idempotent=on");
    for number in 0..6 {
        always.exchange(post(&format!("always-{number}"), "")).expect(200);
    }
}

#[test]
fn t12_a_frozen_host_costs_a_get_its_bound_and_nothing_more() {
    let (frozen, good) = (frozen(), Origin::says("good"));
    // Nothing but the bound of one attempt ends the wait for the frozen one in time.
    let proxy = pool(&[&frozen, &good], "retry per-try=500ms; eject off");
    for number in 0..6 {
        let id = format!("/?id={number}");
        // A second attempt has its bound, too: where the machine stands still for so long, that passes.
        let answer = eventually("an answer", SOON, || Some(proxy.get(&id)).filter(|it| it.status != 504));
        assert_eq!(answer.expect(200).text(), "good");
    }
    assert!(frozen.count() > 0);
    proxy.log("a second attempt", |line| line["tries"] == 2 && line["status"] == 200);
    // A POST that it has is not given to anybody else, and its client is told.
    let statuses: Vec<u16> =
        (0..4).map(|number| proxy.exchange(post(&format!("p{number}"), "")).status).collect();
    assert!(
        statuses.iter().all(|status| matches!(status, 200 | 504)) && statuses.contains(&504),
        "{statuses:?}"
    );
    assert_eq!(proxy.expect_reason("try-timeout")["status"], 504);
}

#[test]
fn attempts_end_with_the_time_of_the_request() {
    let origins = [frozen(), frozen(), frozen(), frozen()];
    let all: Vec<&Origin> = origins.iter().collect();
    let text = pool_text(&all, "retry tries=4 per-try=300ms");
    let proxy = Proxy::start(&format!("{text}{}", site("timeout request=500ms; proxy p")));
    let mut asked = 0;
    eventually("a request with two attempts", SOON, || {
        asked += 1;
        proxy.get(&format!("/?id={asked}")).expect(504);
        (seen(&all, &asked.to_string()) == 2).then_some(())
    });
    proxy.expect_reason("deadline");
    let most = (1..=asked).map(|id: u32| seen(&all, &id.to_string())).max();
    assert_eq!(most, Some(2), "a third attempt would have begun too late");
}

#[test]
fn t22_an_outage_is_not_multiplied() {
    let origins = [sick(503), sick(503), sick(503)];
    let all: Vec<&Origin> = origins.iter().collect();
    let text = pool_text(&all, "retry tries=3 on=503");
    let proxy = Proxy::start(&format!("workers 2\n{text}{}", site("proxy p")));
    let load = Load::start(proxy.address(), 4, get);
    load.wait_for(2000);
    let asked = load.finish().len();
    let attempts: usize = all.iter().map(|origin| origin.count()).sum();
    assert!(attempts > asked, "some are tried again");
    assert!(attempts * 10 <= asked * 11, "{attempts} attempts for {asked} requests");
    assert!(proxy.metric("portunus_retries_refused_total", &[]) > 0.0);
    let refused = proxy.log("a refused attempt", |line| line["retry"] == "refused-by-budget");
    assert_eq!(refused["status"], 503);
    assert!(refused["tries"] == 1 || refused["tries"] == 2, "{refused}");
}

#[test]
fn without_a_budget_nothing_that_was_seen_is_tried_again() {
    let (sick, good) = (sick(503), Origin::says("good"));
    let proxy = pool(&[&sick, &good], "retry budget=0% on=503");
    let statuses: Vec<u16> = (0..10).map(|_| proxy.get("/").status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 503).count(), 5, "{statuses:?}");
}

#[test]
fn a_host_that_asks_to_be_left_alone_is_left_alone_while_others_are_there() {
    let tired = |seconds: u32| {
        let fields = format!("Retry-After: {seconds}\r\nContent-Length: 5");
        Origin::serve(move |_| Answer::raw(format!("HTTP/1.1 503 X\r\n{fields}\r\n\r\ntired")))
    };
    let good = Origin::says("good");
    let long = tired(60);
    let proxy = pool(&[&long, &good], "retry on=503");
    for _ in 0..20 {
        assert_eq!(proxy.get("/").expect(200).text(), "good");
    }
    assert_eq!(long.count(), 1, "it has said so once");
    let status = proxy.command(&["status"]).expect(0).stdout;
    assert!(status.contains("resting (retry-after)"), "{status}");
    let tired = tired(1);
    let proxy = pool(&[&tired, &good], "retry on=503");
    eventually("it is asked again", SOON, || {
        proxy.get("/").expect(200);
        (tired.count() > 1).then_some(())
    });
    let alone = pool(&[&tired], "");
    alone.get("/").expect(503);
    let before = tired.count();
    alone.get("/").expect(503);
    assert_eq!(tired.count(), before + 1, "when nobody else is there it is asked all the same");
}

#[test]
fn counts_and_budget_survive_a_reload() {
    let origins = [sick(503), sick(503)];
    let all: Vec<&Origin> = origins.iter().collect();
    let text = format!("{}{}", pool_text(&all, "retry on=503; eject off"), site("proxy p"));
    let proxy = Proxy::start(&text);
    let mut attempts = 0;
    for round in 0..3 {
        for _ in 0..40 {
            proxy.get("/").expect(503);
        }
        if round == 0 {
            attempts = all.iter().map(|origin| origin.count()).sum();
        }
        proxy.write_config(&format!("{text}# {round}\n"));
        proxy.command(&["reload"]).expect(0);
    }
    let more = all.iter().map(|origin| origin.count()).sum::<usize>() - attempts;
    // Nothing is left of the thirty of ten seconds but what time gives back.
    assert_eq!(attempts, 70);
    assert_eq!(more, 80);
}

#[test]
fn a_route_has_its_own_rules_for_trying_again() {
    let (sick, good) = (sick(503), Origin::says("good"));
    let servers = pool_text(&[&sick, &good], "retry on=503 budget=100%; eject off");
    let routes = "route /once { retry off; proxy p }\n route /also-500 { retry on=500; proxy p }\n proxy p";
    let proxy = Proxy::start(&format!("{servers}{}", site(routes)));
    let statuses = |path: &str| (0..10).map(|_| proxy.get(path).status).collect::<Vec<u16>>();
    assert!(statuses("/").iter().all(|status| *status == 200));
    for path in ["/once", "/also-500"] {
        let statuses = statuses(path);
        assert_eq!(statuses.iter().filter(|status| **status == 503).count(), 5, "{path} {statuses:?}");
    }
}

#[test]
fn what_a_route_leaves_out_is_as_its_site_and_its_pool_have_it() {
    let (mute, good) = (frozen(), Origin::says("good"));
    let servers = pool_text(&[&mute, &good], "retry tries=1 budget=100%; eject off");
    let routes = "retry per-try=200ms\n route /again { retry tries=2; proxy p }\n proxy p";
    let proxy = Proxy::start(&format!("{servers}{}", site(routes)));
    let told = |path: &str, number: usize| {
        let path = format!("{path}?{number}");
        proxy.get(&path);
        let line = proxy.log_of(&path);
        (line["status"].as_u64().unwrap_or(0), line["tries"].as_u64().unwrap_or(0))
    };
    let again: Vec<_> = (0..6).map(|number| told("/again", number)).collect();
    assert!(again.iter().filter(|(_, tries)| *tries == 2).count() >= 3, "{again:?}");
    let once: Vec<_> = (0..6).map(|number| told("/", number)).collect();
    assert!(once.iter().all(|(status, tries)| matches!(status, 200 | 504) && *tries == 1), "{once:?}");
    assert!(once.iter().filter(|(status, _)| *status == 504).count() >= 3, "{once:?}");
}

#[test]
fn the_only_server_is_asked_again_after_a_moment_when_it_refused() {
    let port = Port::free();
    let proxy = Proxy::start(&format!("pool p {{\n server {port}\n}}\n{}", site("proxy p")));
    assert!(proxy.get("/?id=nobody").status >= 500);
    let line = proxy.log_of("/?id=nobody");
    assert_eq!(line["tries"], 2, "{line}");
    let once = Proxy::start(&format!("pool p {{\n server {port}\n}}\n{}", site("retry off; proxy p")));
    once.get("/?id=once");
    assert_eq!(once.log_of("/?id=once")["tries"], 1);
}

#[test]
fn an_address_where_nobody_answers_costs_a_moment_and_is_left_out() {
    let (hole, good) = (Blackhole::open(), Origin::says("good"));
    let settings = "keep-alive off; balance round-robin";
    let proxy = Proxy::start(&format!(
        "limits {{ connect 60s }}\npool p {{\n server {hole}\n server {good}\n{settings}\n}}\n{}",
        site("proxy p")
    ));
    let mut slow = 0;
    for number in 0..40 {
        let begun = Instant::now();
        proxy.exchange(post(&number.to_string(), "")).expect(200);
        slow += usize::from(begun.elapsed() >= Duration::from_millis(240));
    }
    // Twenty, if it were not left out; some may have waited for the machine.
    assert!((1..=12).contains(&slow), "{slow} requests had to wait");
    assert!(good.ledger().len() == 40 && good.ledger().values().all(|count| *count == 1));
    proxy.wait_for_metric("portunus_upstream_ejections_total", &["reason=\"timeouts\""], 1.0);
    let line = proxy.log("one that had to wait", |line| line["total"].as_f64() > Some(240.0));
    assert_eq!((&line["tries"], &line["upstream"]), (&1.into(), &good.address().to_string().into()));
}

#[test]
fn a_pool_that_does_not_change_hosts_waits_for_the_one_it_chose() {
    let (hole, good) = (Blackhole::open(), Origin::says("good"));
    let settings = "retry off; connect timeout=600ms; eject off";
    let proxy = Proxy::start(&format!(
        "pool p {{\n server {hole}\n server {good}\n{settings}\n}}\n{}",
        site("proxy p")
    ));
    let statuses: Vec<u16> = (0..4).map(|_| proxy.get("/").status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 504).count(), 2, "{statuses:?}");
}

#[test]
fn a_frozen_host_is_found_without_a_bound_and_its_gets_go_to_another() {
    let (ice, good) = (frozen(), Origin::says("good"));
    let proxy = pool(&[&ice, &good], "");
    // Without a bound they would wait for a minute.
    const PATIENCE: Duration = Duration::from_secs(30);
    let begun = Instant::now();
    let answers = std::thread::scope(|scope| {
        let gets = (0..16).map(|number| {
            let proxy = &proxy;
            scope.spawn(move || proxy.client().patience(PATIENCE).get(&format!("/?id={number}")).status)
        });
        let gets: Vec<_> = gets.collect();
        // Others are answered meanwhile: that makes the silence of the one strange.
        let mut more = 0;
        while gets.iter().any(|get| !get.is_finished()) && begun.elapsed() < PATIENCE {
            let mut client = proxy.client().patience(Duration::from_millis(50));
            client.send(format!("GET /?id=more-{more} HTTP/1.1\r\nHost: a\r\n\r\n"));
            let _ = client.try_response("GET");
            more += 1;
        }
        gets.into_iter().map(|get| get.join().expect("an answer")).collect::<Vec<u16>>()
    });
    assert!(answers.iter().all(|status| *status == 200), "{answers:?}");
    proxy.wait_for_stderr(&format!("{ice} is ejected"));
    (0..10).for_each(|_| assert_eq!(proxy.get("/later").expect(200).text(), "good"));
    assert!(ice.requests().iter().all(|request| request.target != "/later"), "it gets nothing but probes");
}

#[test]
fn a_host_with_long_answers_is_asked_and_left_in_peace() {
    let slow = Origin::script(|connection| {
        while let Some(request) = connection.request() {
            if request.method == "OPTIONS" {
                connection.answer(Answer::status(405, b""));
            } else {
                connection.until_closed();
            }
        }
    });
    let good = Origin::says("good");
    let questions = || slow.requests().iter().filter(|request| request.method == "OPTIONS").count();
    eventually("a question that no pause has held up", SOON * 3, || {
        let (proxy, before) = (pool(&[&slow, &good], ""), questions());
        let ejections = || proxy.metric("portunus_upstream_ejections_total", &[]);
        let (mut last, mut pause) = (Instant::now(), Duration::ZERO);
        let ejected = std::thread::scope(|scope| {
            let mut waiting: Vec<_> = (0..16).map(|_| proxy.client()).collect();
            for (number, client) in waiting.iter_mut().enumerate() {
                client.send(format!("GET /?id={number} HTTP/1.1\r\nHost: a\r\n\r\n"));
            }
            eventually("a question", SOON, || {
                scope.spawn(|| drop(proxy.client().try_send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")));
                let ejected = ejections();
                pause = pause.max(last.elapsed());
                last = Instant::now();
                (questions() > before || ejected > 0.0).then_some(ejected)
            });
            ejections()
        });
        let asked = questions() - before;
        let is_fine = ejected == 0.0 && asked <= 3;
        assert!(
            is_fine || pause > Duration::from_millis(300),
            "{ejected} ejected, asked {asked} times, {pause:?}"
        );
        is_fine.then_some(())
    });
}

/// Answers the first request of each connection and ends it over the second one, which it has read.
fn leaves_off() -> Origin {
    Origin::script(|connection| {
        if connection.request().is_some() && connection.answer(Answer::text("first")) {
            connection.request();
        }
    })
}

#[test]
fn what_a_server_has_read_counts_as_tried_though_its_connection_was_an_old_one() {
    for (method, settings, times, status) in [
        ("GET", "retry off", 1, 502),
        ("DELETE", "retry budget=0%", 1, 502),
        ("GET", "", 2, 200),
        ("POST", "", 1, 502),
    ] {
        let origin = leaves_off();
        let proxy = pool(&[&origin], settings);
        proxy.get("/").expect(200);
        let answer =
            proxy.exchange(format!("{method} /?id=x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
        assert_eq!((answer.status, seen(&[&origin], "x")), (status, times), "{method} {settings}");
        proxy.expect_metric("portunus_retries_total", &[], f64::from(u8::from(times > 1)));
    }
    let (bad, good) = (leaves_off(), Origin::says("good"));
    let proxy = pool(&[&bad, &good], "eject off");
    for number in 0..6 {
        proxy.get(&format!("/?id={number}")).expect(200);
    }
    assert!((0..6).all(|number| seen(&[&bad], &number.to_string()) <= 1), "{:?}", bad.ledger());
}

#[test]
fn hosts_that_nobody_can_connect_to_are_no_tries() {
    let (one, two, spare) = (Port::free(), Port::free(), Origin::says("spare"));
    for method in ["GET", "POST"] {
        let proxy = Proxy::start(&format!(
            "pool p {{\nserver {one}\nserver {two}\nserver {spare} backup\n}}\n{}",
            site("proxy p")
        ));
        proxy.exchange(format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")).expect(200);
        let proxy = Proxy::start(&format!(
            "pool p {{\nserver {one}\nserver {two}\nserver {spare} backup\nretry off\n}}\n{}",
            site("proxy p")
        ));
        proxy.exchange(format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")).expect(502);
    }
}

#[test]
fn a_head_that_breaks_a_rule_is_asked_for_elsewhere() {
    for head in [
        "HTTP/9.9 200 OK\r\n\r\n",
        "HTTP/1.1 099 x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    ] {
        let (bad, good) = (Origin::serve(move |_| Answer::raw(head).close()), Origin::says("good"));
        let proxy = pool(&[&bad, &good], "eject off");
        (0..4).for_each(|_| _ = proxy.get("/").expect(200));
        assert_eq!(bad.count(), 2, "{head}");
        let posts: Vec<u16> =
            (0..2).map(|number| proxy.exchange(post(&number.to_string(), "")).status).collect();
        assert_eq!(posts.iter().filter(|status| **status == 502).count(), 1, "{head} {posts:?}");
    }
}
