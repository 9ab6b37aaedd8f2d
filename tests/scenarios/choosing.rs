//! choosing: clients that come back to their server, servers that are brought up by and by, and the own zone first.

use portunus_tests::proxy::site;
use portunus_tests::{Origin, Place, Proxy, Response, eventually};
use std::time::{Duration, Instant};

/// How long something may take that happens by itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// A proxy for these servers; its folder holds two files of keys.
fn pool(servers: &[String], more: &str) -> Proxy {
    let place = Place::new();
    place.write("keys", "the-only-key-that-there-is\n");
    place.write("both-keys", "a-newer-key-than-the-other\nthe-only-key-that-there-is\n");
    Proxy::start_in(place, &config(servers, more))
}

fn config(servers: &[String], more: &str) -> String {
    let servers: String = servers.iter().map(|server| format!(" server {server}\n")).collect();
    format!("pool p {{\n{servers} {more}\n}}\n{}", site("proxy p"))
}

fn at(origin: &Origin, more: &str) -> String {
    format!("{} {more}", origin.address())
}

/// A GET with the cookie that an earlier answer set, or another one.
fn get(proxy: &Proxy, cookie: &str) -> Response {
    proxy.exchange(format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: a=b; {cookie}\r\n\r\n")).expect(200)
}

/// The pair that the answer sets.
fn cookie(response: &Response) -> String {
    let set = response.fields.one("set-cookie").expect("a cookie");
    set.split(';').next().unwrap_or("").to_owned()
}

const STICKY: &str = "sticky cookie=srv key=${file.@dir/keys}";

#[test]
fn a_client_comes_back_to_its_server_and_finds_another_when_that_is_gone() {
    let origins = ["one", "two", "three"].map(Origin::says);
    let servers: Vec<String> = origins.iter().map(|origin| at(origin, "")).collect();
    let proxy = pool(&servers, STICKY);
    let first = proxy.get("/").expect(200);
    let mine = cookie(&first);
    let shown = first.fields.one("set-cookie").unwrap_or("").to_owned();
    assert!(shown.ends_with("; Path=/; HttpOnly; SameSite=Lax") && !shown.contains("127.0.0.1"), "{shown}");
    for _ in 0..10 {
        let again = get(&proxy, &mine);
        assert_eq!((again.text(), again.fields.one("set-cookie")), (first.text(), None));
    }
    let home = ["one", "two", "three"].iter().position(|name| first.text() == *name).expect("an origin");
    origins[home].kill();
    let moved = get(&proxy, &mine);
    assert_ne!(moved.text(), first.text());
    assert_eq!(get(&proxy, &cookie(&moved)).text(), moved.text());
}

#[test]
fn a_cookie_that_is_not_signed_by_a_key_leads_nowhere() {
    let origins = ["one", "two"].map(Origin::says);
    let servers: Vec<String> = origins.iter().map(|origin| at(origin, "")).collect();
    let proxy = pool(&servers, STICKY);
    let forged = format!("srv={}", origins[0].address());
    let texts: Vec<String> = (0..4).map(|_| get(&proxy, &forged).text()).collect();
    assert!(texts.contains(&"one".to_owned()) && texts.contains(&"two".to_owned()), "{texts:?}");
    assert!(get(&proxy, "srv=").fields.one("set-cookie").is_some());
}

#[test]
fn keys_are_changed_without_losing_a_client() {
    let origins = ["one", "two", "three"].map(Origin::says);
    let servers: Vec<String> = origins.iter().map(|origin| at(origin, "")).collect();
    let proxy = pool(&servers, STICKY);
    let first = proxy.get("/").expect(200);
    proxy.write_config(&config(&servers, "sticky cookie=srv key=${file.@dir/both-keys}"));
    proxy.command(&["reload"]).expect(0);
    let again = get(&proxy, &cookie(&first));
    assert_eq!(again.text(), first.text());
    assert_ne!(cookie(&again), cookie(&first), "signed by the newer key now");
    assert_eq!(get(&proxy, &cookie(&again)).text(), first.text());
}

#[test]
fn a_server_of_weight_0_keeps_its_clients_and_gets_no_new_ones() {
    let origins = ["one", "two"].map(Origin::says);
    let servers = |weight: u32| vec![at(&origins[0], &format!("weight={weight}")), at(&origins[1], "")];
    let proxy = pool(&servers(1), STICKY);
    let mine = eventually("a cookie of the first server", PATIENCE, || {
        let response = proxy.get("/").expect(200);
        (response.text() == "one").then(|| cookie(&response))
    });
    proxy.write_config(&config(&servers(0), STICKY));
    proxy.command(&["reload"]).expect(0);
    for _ in 0..6 {
        assert_eq!(get(&proxy, &mine).text(), "one");
        assert_eq!(proxy.get("/").text(), "two");
    }
}

#[test]
fn a_new_server_of_a_running_pool_is_brought_up_by_and_by() {
    let (old, new) = (Origin::says("old"), Origin::says("new"));
    let slow = "slow-start 1h";
    let proxy = pool(&[at(&old, "")], slow);
    for _ in 0..10 {
        proxy.get("/").expect(200);
    }
    proxy.write_config(&config(&[at(&old, ""), at(&new, "")], slow));
    proxy.command(&["reload"]).expect(0);
    let mut client = proxy.client();
    for _ in 0..110 {
        client.get("/").expect(200);
    }
    // A tenth of its weight, against the whole of the other's.
    assert!((8..=12).contains(&new.count()), "{} of 110", new.count());
}

#[test]
fn the_first_servers_of_a_pool_have_their_whole_weight() {
    let origins = ["one", "two"].map(Origin::says);
    let servers: Vec<String> = origins.iter().map(|origin| at(origin, "")).collect();
    let proxy = pool(&servers, "slow-start 1h");
    let mut client = proxy.client();
    for _ in 0..20 {
        client.get("/").expect(200);
    }
    assert_eq!((origins[0].count(), origins[1].count()), (10, 10));
}

#[test]
fn the_own_zone_gets_all_until_it_is_gone_and_backups_come_last() {
    let (near, far, backup) = (Origin::says("near"), Origin::says("far"), Origin::says("backup"));
    let servers = [at(&near, "zone=a"), at(&far, "zone=b"), at(&backup, "backup zone=a")];
    let servers: String = servers.iter().map(|server| format!(" server {server}\n")).collect();
    let proxy = Proxy::start(&format!("zone a\npool p {{\n{servers} retry tries=3\n}}\n{}", site("proxy p")));
    let mut client = proxy.client();
    for _ in 0..20 {
        assert_eq!(client.get("/").text(), "near");
    }
    near.kill();
    for _ in 0..5 {
        assert_eq!(client.get("/").text(), "far");
    }
    far.kill();
    assert_eq!(client.get("/").text(), "backup");
}

#[test]
fn a_server_that_fails_fast_attracts_nothing() {
    let broken = Origin::serve(|_| portunus_tests::Answer::status(500, b"no"));
    let good = Origin::serve(|_| {
        std::thread::park_timeout(std::time::Duration::from_millis(5)); // work that takes its time
        portunus_tests::Answer::text("yes")
    });
    eventually("two hundred requests without a pause", PATIENCE * 3, || {
        let proxy = pool(&[at(&broken, ""), at(&good, "")], "balance least-time");
        let (mut client, mut longest) = (proxy.client(), Duration::ZERO);
        let mut fails = || {
            let begun = Instant::now();
            let status = client.get("/").status;
            longest = longest.max(begun.elapsed());
            status == 500
        };
        let failed = (0..200).filter(|_| fails()).count();
        // One that has paused is no better than the broken one for a while.
        let has_paused = longest > Duration::from_millis(100);
        assert!(failed <= 5 || has_paused, "{failed} of 200, none took longer than {longest:?}");
        (failed <= 5).then_some(())
    });
}

#[test]
fn a_key_stays_with_its_server_by_every_method() {
    let origins = ["one", "two", "three"].map(Origin::says);
    let servers: Vec<String> = origins.iter().map(|origin| at(origin, "")).collect();
    for method in ["rendezvous", "ring", "maglev"] {
        let proxy = pool(&servers, &format!("balance hash ${{query.user}} method={method}"));
        let home = |user: u32| proxy.get(&format!("/?user={user}")).expect(200).text();
        let homes: Vec<String> = (0..12).map(home).collect();
        assert!((0..12).all(|user| home(user) == homes[user as usize]), "{method}");
        assert!(homes.iter().any(|one| *one != homes[0]), "{method}: all at one");
    }
}
