//! runtime: hosts are drained, weighted, added and removed while the program runs, without a reload.

use portunus_tests::load::{Load, failed, get};
use portunus_tests::proxy::site;
use portunus_tests::{Answer, Client, Origin, Place, Proxy, Response, eventually};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

fn config(servers: &[&Origin], more: &str) -> String {
    let servers: String = servers.iter().map(|server| format!(" server {server}\n")).collect();
    format!("{more}\npool p {{\n{servers}}}\n{}", site("proxy p"))
}

/// How many of `count` requests each origin gets.
fn shares<const N: usize>(proxy: &Proxy, origins: [&Origin; N], count: usize) -> [usize; N] {
    let before = origins.map(Origin::count);
    let mut client = proxy.client();
    (0..count).for_each(|_| _ = client.get("/").expect(200));
    let mut shares = origins.map(Origin::count);
    shares.iter_mut().zip(before).for_each(|(share, before)| *share -= before);
    shares
}

/// A request to the admin socket with a body.
fn ask(proxy: &Proxy, method: &str, path: &str, body: &str) -> Response {
    let mut client = Client::connect_unix(&proxy.admin_socket());
    let length = body.len();
    client.exchange(format!(
        "{method} {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    ))
}

#[test]
fn a_host_is_drained_by_command_and_serves_again() {
    let slow = Origin::serve(|request| {
        if request.target == "/slow" {
            std::thread::sleep(Duration::from_millis(300));
        }
        Answer::text("slow")
    });
    let other = Origin::says("other");
    let proxy = Proxy::start(&config(&[&slow, &other], ""));
    let slow_answer = std::thread::scope(|scope| {
        let under_way: Vec<_> =
            (0..4).map(|_| scope.spawn(|| proxy.get("/slow").expect(200).text())).collect();
        slow.wait_for(1);
        let run = proxy.command(&["drain", "p", &slow.to_string()]).expect(0);
        assert!(run.stdout.contains("drains"), "{}", run.stdout);
        under_way.into_iter().map(|thread| thread.join().expect("an answer")).collect::<Vec<_>>()
    });
    assert!(slow_answer.contains(&"slow".to_owned()), "what was under way came to its end");
    let before = slow.count();
    assert_eq!(shares(&proxy, [&slow, &other], 10), [0, 10]);
    let status = proxy.command(&["status"]).expect(0).stdout;
    assert!(status.contains(&format!("{slow} draining")), "{status}");
    proxy.command(&["reload"]).expect(0);
    assert_eq!(shares(&proxy, [&slow, &other], 10), [0, 10], "it holds over a reload");
    assert_eq!(slow.count(), before);
    proxy.command(&["undrain", "p", &slow.to_string()]).expect(0);
    assert_eq!(shares(&proxy, [&slow, &other], 10), [5, 5]);
    proxy.wait_for_stderr("asked over the admin API");
}

#[test]
fn weights_can_be_set_and_taken_back() {
    let (one, two) = (Origin::says("one"), Origin::says("two"));
    let proxy = Proxy::start(&config(&[&one, &two], ""));
    proxy.command(&["weight", "p", &one.to_string(), "3"]).expect(0);
    assert_eq!(shares(&proxy, [&one, &two], 40), [30, 10]);
    proxy.command(&["weight", "p", &one.to_string(), "0"]).expect(0);
    assert_eq!(shares(&proxy, [&one, &two], 10), [0, 10]);
    proxy.command(&["weight", "p", &one.to_string(), "default"]).expect(0);
    assert_eq!(shares(&proxy, [&one, &two], 10), [5, 5]);
    proxy.command(&["weight", "p", &one.to_string(), "65536"]).expect(2);
    ask(&proxy, "PATCH", &format!("/pools/p/hosts/{one}"), r#"{"weight": 3}"#).expect(200);
    assert_eq!(shares(&proxy, [&one, &two], 40), [30, 10]);
}

#[test]
fn hosts_come_and_go_under_load() {
    let (one, two) = (Origin::says("one"), Origin::says("two"));
    let proxy = Proxy::start(&config(&[&one], "workers 2"));
    let load = Load::start(proxy.address(), 3, get);
    load.wait_for(50);
    proxy.command(&["add", "p", &two.to_string(), "--weight", "2"]).expect(0);
    two.wait_for(50);
    let told = format!("pool p: {two} is added, given weight 2 by hand");
    assert!(proxy.command(&["reload"]).expect(0).stdout.contains(&told));
    assert!(proxy.command(&["status"]).expect(0).stdout.contains(&told));
    proxy.wait_for_stderr(&told);
    let seen = two.count();
    two.wait_for(seen + 50);
    proxy.command(&["remove", "p", &one.to_string()]).expect(0);
    eventually("the end of the connections to it", PATIENCE, || {
        (one.ended() == one.connections()).then_some(())
    });
    let told = format!("pool p: {one} is removed by hand");
    assert!(proxy.command(&["status"]).expect(0).stdout.contains(&told));
    let left = one.count();
    load.wait_for(100);
    assert_eq!(one.count(), left);
    proxy.command(&["add", "p", &one.to_string()]).expect(0);
    one.wait_for(left + 20);
    proxy.command(&["remove", "p", &two.to_string()]).expect(0);
    load.wait_for(50);
    let outcomes = load.finish();
    assert!(failed(&outcomes).is_empty(), "{} of {}", failed(&outcomes).len(), outcomes.len());
    let refused = proxy.command(&["remove", "p", &one.to_string()]).expect(1);
    assert!(refused.stderr.contains("the last host of pool `p`"), "{}", refused.stderr);
}

#[test]
fn what_is_not_there_is_404_with_the_names_near_it() {
    let (one, two) = (Origin::says("one"), Origin::says("two"));
    let proxy = Proxy::start(&config(&[&one, &two], ""));
    let answer = ask(&proxy, "PATCH", "/pools/q/hosts/x:80", r#"{"drain":true}"#).expect(404).text();
    assert_eq!(answer.trim(), "there is no pool `q`; there is p");
    let wrong = two.to_string().replace("127.0.0.1", "127.0.0.2");
    let run = proxy.command(&["drain", "p", &wrong]).expect(1);
    assert_eq!(
        run.stderr.trim(),
        format!("there is no host `{wrong}` in pool `p`; there is {two}, {one}"),
        "the nearest first"
    );
    ask(&proxy, "DELETE", &format!("/pools/p/hosts/{wrong}"), "").expect(404);
    ask(&proxy, "PUT", "/pools/p/hosts/nonsense", "").expect(400);
    ask(&proxy, "PATCH", &format!("/pools/p/hosts/{one}"), r#"{"wieght":1}"#).expect(400);
    ask(&proxy, "POST", &format!("/pools/p/hosts/{one}"), "").expect(405);
    ask(&proxy, "GET", "/pools/p/hosts", "").expect(404);
    let pools: serde_json::Value =
        serde_json::from_str(&ask(&proxy, "GET", "/pools", "").expect(200).text()).expect("JSON");
    assert_eq!(pools[0]["hosts"][1]["state"], "good");
}

#[test]
fn what_shall_be_kept_holds_after_the_next_start() {
    let (one, two, three) = (Origin::says("one"), Origin::says("two"), Origin::says("three"));
    let place = Place::new();
    let state = place.path().join("state");
    let text = config(&[&one, &two], &format!("state {}", state.display()));
    let first = Proxy::start(&text);
    first.command(&["drain", "p", &one.to_string(), "--persist"]).expect(0);
    first.command(&["add", "p", &three.to_string(), "--persist"]).expect(0);
    first.command(&["weight", "p", &two.to_string(), "0"]).expect(0);
    assert_eq!(shares(&first, [&one, &two, &three], 10), [0, 0, 10]);
    drop(first);
    let second = Proxy::start(&text);
    assert_eq!(shares(&second, [&one, &two, &three], 10), [0, 5, 5]);
    let run = second.command(&["remove", "p", &three.to_string()]).expect(0);
    assert!(run.stdout.contains("at the next start it is again as it was kept"), "{}", run.stdout);
    second.command(&["add", "p", &three.to_string()]).expect(0);
    second.command(&["undrain", "p", &one.to_string(), "--persist"]).expect(0);
    second.command(&["remove", "p", &three.to_string(), "--persist"]).expect(0);
    drop(second);
    let third = Proxy::start(&text);
    assert_eq!(shares(&third, [&one, &two, &three], 10), [5, 5, 0]);
    drop(third);
    std::fs::write(state.join("pools.json"), "{").expect("to write");
    let fourth = Proxy::start(&text);
    assert_eq!(shares(&fourth, [&one, &two], 10), [5, 5], "what is broken is told, and not heeded");
    fourth.wait_for_stderr("is not heeded");
}

#[test]
fn what_is_added_has_the_scheme_of_its_pool() {
    let (one, two) = (Origin::says("one"), Origin::says("two"));
    let proxy = Proxy::start(&config(&[&one], ""));
    for scheme in ["https", "h2c"] {
        let run = proxy.command(&["add", "p", &format!("{scheme}://{two}")]).expect(2);
        assert!(run.stderr.contains("whose servers speak plain HTTP"), "{}", run.stderr);
    }
    assert_eq!(shares(&proxy, [&one, &two], 4), [4, 0]);
    proxy.command(&["add", "p", &format!("http://{two}")]).expect(0);
    assert_eq!(shares(&proxy, [&one, &two], 4), [2, 2]);
}

#[test]
fn what_is_added_is_removed_by_the_same_word() {
    let (one, two) = (Origin::says("one"), Origin::says("two"));
    let place = Place::new();
    let state = place.path().join("state");
    let proxy = Proxy::start(&config(&[&one], &format!("state {}", state.display())));
    let by_name = two.to_string().replace("127.0.0.1", "localhost");
    let plain = format!("http://{two}");
    for word in ["nosuch.invalid:80", "srv:_a._tcp.nosuch.invalid", &by_name, &plain] {
        proxy.command(&["add", "p", word, "--persist"]).expect(0);
        let (path, word_in_path) = ("/pools/p/hosts/", word.replace('/', "%2F"));
        ask(&proxy, "GET", &format!("{path}{word_in_path}"), "").expect(200);
        proxy.command(&["remove", "p", word, "--persist"]).expect(0);
        let kept = std::fs::read_to_string(state.join("pools.json")).expect("what is kept");
        assert_eq!(kept, "{}", "{word}");
        proxy.command(&["remove", "p", word]).expect(1);
    }
    assert_eq!(shares(&proxy, [&one, &two], 4), [4, 0]);
}

#[test]
fn a_name_without_addresses_is_no_last_host() {
    let proxy = Proxy::start(&format!("pool p {{ server nosuch.invalid:80 }}\n{}", site("proxy p")));
    proxy.command(&["add", "p", "other.invalid:80"]).expect(0);
    proxy.command(&["remove", "p", "nosuch.invalid:80"]).expect(0);
    let run = proxy.command(&["remove", "p", "other.invalid:80"]).expect(1);
    assert!(run.stderr.contains("the last host of pool `p`"), "{}", run.stderr);
}

#[test]
fn without_a_place_nothing_can_be_kept() {
    let (one, two) = (Origin::says("one"), Origin::says("two"));
    let proxy = Proxy::start(&config(&[&one, &two], ""));
    let run = proxy.command(&["drain", "p", &one.to_string(), "--persist"]).expect(1);
    assert!(run.stderr.contains("no `state DIRECTORY`"), "{}", run.stderr);
    assert_eq!(shares(&proxy, [&one, &two], 10), [5, 5], "and nothing is changed");
}

/// A request to the admin socket with further fields and a body.
fn ask_if(proxy: &Proxy, method: &str, path: &str, fields: &str, body: &str) -> Response {
    let mut client = Client::connect_unix(&proxy.admin_socket());
    let length = body.len();
    client.send(format!(
        "{method} {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n{fields}\r\nContent-Length: {length}\r\n\r\n{body}"
    ));
    client.response_to(method)
}

#[test]
fn a_change_can_be_made_of_a_known_state_only() {
    let (one, two) = (Origin::says("one"), Origin::says("two"));
    let proxy = Proxy::start(&config(&[&one, &two], ""));
    let path = format!("/pools/p/hosts/{one}");
    let tag_of = |answer: &Response| answer.fields.one("etag").expect("a tag").to_owned();
    let page = ask(&proxy, "GET", &path, "").expect(200);
    let first = tag_of(&page);
    let page: serde_json::Value = serde_json::from_slice(&page.body).expect("JSON");
    assert_eq!((&page["weight"], &page["drain"], &page["added"]), (&1.into(), &false.into(), &false.into()));
    assert_eq!(ask_if(&proxy, "GET", &path, &format!("If-None-Match: {first}"), "").status, 304);

    let changed =
        ask_if(&proxy, "PATCH", &path, &format!("If-Match: {first}"), r#"{"weight": 3}"#).expect(200);
    let second = tag_of(&changed);
    assert_ne!(first, second);
    assert_eq!(tag_of(&ask(&proxy, "GET", &path, "").expect(200)), second);
    for (method, body) in [("PATCH", r#"{"weight": 9}"#), ("PUT", r#"{"weight": 9}"#), ("DELETE", "")] {
        let late = ask_if(&proxy, method, &path, &format!("If-Match: {first}"), body).expect(412);
        assert_eq!(tag_of(&late), second, "{method}");
        assert!(late.text().contains(&second), "{}", late.text());
    }
    assert_eq!(shares(&proxy, [&one, &two], 40), [30, 10], "nothing has changed");
    ask_if(&proxy, "PATCH", &path, "If-Match: *", r#"{"weight": null}"#).expect(200);
    assert_eq!(tag_of(&ask(&proxy, "GET", &path, "").expect(200)), first, "the same state, the same tag");

    let three = Origin::says("three");
    let new = format!("/pools/p/hosts/{three}");
    ask_if(&proxy, "PUT", &new, "If-Match: *", "").expect(412);
    ask_if(&proxy, "PUT", &new, "If-None-Match: *", "").expect(200);
    ask_if(&proxy, "PUT", &new, "If-None-Match: *", "").expect(412);
    proxy.command(&["remove", "p", &three.to_string()]).expect(0);
    ask(&proxy, "GET", &new, "").expect(404);
}

#[test]
fn pools_are_shown_with_a_tag_and_unknown_ones_with_the_names_near_them() {
    let one = Origin::says("one");
    let proxy = Proxy::start(&config(&[&one], ""));
    for path in ["/pools", "/pools/p"] {
        let answer = ask(&proxy, "GET", path, "").expect(200);
        let tag = answer.fields.one("etag").expect("a tag").to_owned();
        let text = answer.text();
        assert!(text.contains(&one.to_string()) && text.contains("\"in_flight\""), "{text}");
        assert_eq!(ask_if(&proxy, "GET", path, &format!("If-None-Match: {tag}"), "").status, 304);
    }
    for path in ["/pools/q", "/pools/q/hosts/x:80"] {
        assert_eq!(
            ask(&proxy, "GET", path, "").expect(404).text().trim(),
            "there is no pool `q`; there is p"
        );
    }
    let answer =
        ask_if(&proxy, "GET", "/pools/p/hosts/127.0.0.1:1", "Accept: application/json", "").expect(404);
    let page: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!((&page["result"], &page["known"][0]), (&"refused".into(), &one.to_string().into()));
    ask(&proxy, "POST", "/pools/p/hosts/127.0.0.1:1", "").expect(405);
}
