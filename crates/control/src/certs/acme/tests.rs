//! Tests of what is asked of a CA, and of what becomes of its answers.

use super::fake::{Answer, Fake, problem};
use super::*;
use crate::automatic::store::tests::Memory;
use crate::automatic::{Authority, Held, Store};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use portunus_relay::tls::Roots;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::SystemTime;

/// Somebody who wants certificates from a fake CA.
struct Client {
    fake: Fake,
    accounts: Accounts,
    acme: Acme,
    begun: Mutex<Option<Begun>>,
}

impl Client {
    async fn of(script: impl FnMut(&str, &Value) -> Option<Answer> + Send + 'static) -> Client {
        Client::keeping(Arc::new(Memory::default()), script).await
    }

    async fn keeping(
        store: Arc<dyn Store>,
        script: impl FnMut(&str, &Value) -> Option<Answer> + Send + 'static,
    ) -> Client {
        let fake = Fake::new(script).await;
        let authorities = vec![AcmeAuthority::at(fake.url("/directory"))];
        let accounts = accounts_in(store);
        Client { fake, accounts, acme: Acme { authorities, ..Acme::default() }, begun: Mutex::default() }
    }

    async fn obtain(&self, replaces: Option<CertificateIdentifier<'_>>) -> Result<Obtained, Refusal> {
        let request = Request {
            name: "a.example",
            acme: &self.acme,
            authority: &self.acme.authorities[0],
            challenges: &[Challenge::Http],
            turn: 0,
            begun: self.begun.lock().unwrap().clone(),
            stranger: false,
            patience: Duration::from_secs(5),
            cleanups: &Arc::default(),
            replaces,
        };
        let keep = |begun: &Begun| {
            self.fake.hear(begun);
            *self.begun.lock().unwrap() = Some(begun.clone());
            Ok(())
        };
        obtain(request, &self.accounts, &Arc::default(), &keep).await
    }

    async fn refused(&self) -> Refusal {
        self.obtain(None).await.err().unwrap()
    }
}

fn accounts_in(store: Arc<dyn Store>) -> Accounts {
    let root = Authority::make(SystemTime::now()).unwrap().0.certificate;
    let roots = HashMap::from([(None, Arc::new(Roots::read(root.as_bytes()).unwrap()))]);
    Accounts::new(store, roots, Arc::default())
}

fn identifier_of_ours() -> CertificateIdentifier<'static> {
    let now = SystemTime::now();
    identifier(Authority::make(now).unwrap().0.sign("a.example", now).unwrap().leaf()).unwrap()
}

#[tokio::test]
async fn a_ca_that_takes_its_time_is_asked_for_the_same_order_again() {
    let turn = AtomicUsize::new(0);
    let order = Arc::new(Mutex::new(String::new()));
    let processing = Arc::clone(&order);
    let client = Client::of(move |path, _| {
        let late = matches!(path, "/finalize" | "/order/1") && turn.fetch_add(1, Relaxed) < 2;
        late.then(|| (200, "retry-after: 3600\r\n".to_owned(), processing.lock().unwrap().clone()))
    })
    .await;
    *order.lock().unwrap() = client.fake.order("processing");
    let refusal = client.refused().await;
    assert_eq!(refusal.kind, Failing::Outage, "{}", refusal.reason);
    // It has said an hour, and may be done in a moment.
    assert!(refusal.wait.is_some_and(|wait| wait <= Duration::from_secs(15)));
    let obtained = client.obtain(None).await.unwrap();
    assert_eq!(obtained.certificate.names, ["a.example"]);
    assert_eq!(client.fake.count("/order"), 1);
}

#[tokio::test]
async fn a_proof_that_a_ca_looks_at_already_is_shown_again_and_not_begun_again() {
    let state = Arc::new((AtomicUsize::new(0), Mutex::new([String::new(), String::new()])));
    let known = Arc::clone(&state);
    let client = Client::of(move |path, _| {
        let (turn, orders) = (known.0.load(Relaxed), known.1.lock().unwrap());
        let authorization = |status: &str| {
            json!({
                "identifier": { "type": "dns", "value": "a.example" },
                "status": "pending",
                "challenges": [{ "type": "http-01", "url": orders[1], "token": "abc", "status": status }],
            })
            .to_string()
        };
        match (path, turn) {
            ("/order", _) => Some((
                201,
                format!("location: {}\r\n", orders[1].replace("challenge", "order/1")),
                orders[0].clone(),
            )),
            ("/authorization", 0) => Some((200, String::new(), authorization("pending"))),
            ("/authorization", _) => Some((200, String::new(), authorization("processing"))),
            ("/challenge", _) => {
                let body =
                    json!({ "type": "http-01", "url": orders[1], "token": "abc", "status": "processing" });
                Some((200, String::new(), body.to_string()))
            }
            ("/order/1", 0) => Some((200, "retry-after: 86400\r\n".to_owned(), orders[0].clone())),
            ("/order/1", 1) => {
                known.0.store(2, Relaxed);
                Some((200, String::new(), orders[0].clone()))
            }
            // It is pending when it is taken up, and ready when it is looked at.
            ("/order/1", 2) => {
                known.0.store(3, Relaxed);
                Some((200, String::new(), orders[0].replace("\"pending\"", "\"ready\"")))
            }
            _ => None,
        }
    })
    .await;
    let mut pending: Value = serde_json::from_str(&client.fake.order("pending")).unwrap();
    pending["authorizations"] = json!([client.fake.url("/authorization")]);
    *state.1.lock().unwrap() = [pending.to_string(), client.fake.url("/challenge")];
    assert_eq!(client.refused().await.kind, Failing::Outage);
    state.0.store(1, Relaxed);
    client.obtain(None).await.unwrap();
    assert_eq!((client.fake.count("/challenge"), client.fake.count("/order")), (1, 1));
}

#[tokio::test]
async fn an_order_that_cannot_be_seen_now_is_not_begun_anew() {
    let down = Arc::new(AtomicUsize::new(0));
    let is_down = Arc::clone(&down);
    let client = Client::of(move |path, _| match (path, is_down.load(Relaxed)) {
        ("/finalize", 0) | ("/order/1", 1) => Some((500, String::new(), String::new())),
        ("/order/1", 2) => Some(problem(404, "malformed", "")),
        _ => None,
    })
    .await;
    assert_eq!(client.refused().await.kind, Failing::Outage);
    down.store(1, Relaxed);
    assert_eq!(client.refused().await.kind, Failing::Outage);
    assert_eq!(client.fake.count("/order"), 1);
    down.store(2, Relaxed);
    assert!(client.refused().await.reason.contains("malformed"));
    assert_eq!(client.fake.count("/order"), 2, "one that the CA does not know is");
}

#[tokio::test]
async fn a_ca_that_does_not_know_what_is_replaced_gives_a_certificate_all_the_same() {
    // It does not say the field back, it refuses it, or it knows nothing of the sort.
    let client = Client::of(|_, _| None).await;
    client.obtain(Some(identifier_of_ours())).await.unwrap();
    assert_eq!(client.fake.count("/order"), 2);
    let refuses = |path: &str, sent: &Value| {
        (path == "/order" && sent["replaces"].is_string()).then(|| problem(409, "alreadyReplaced", ""))
    };
    Client::of(refuses).await.obtain(Some(identifier_of_ours())).await.unwrap();
    let limits = |path: &str, _: &Value| (path == "/order").then(|| problem(429, "rateLimited", ""));
    let client = Client::of(limits).await;
    assert!(client.obtain(Some(identifier_of_ours())).await.err().unwrap().reason.contains("rateLimited"));
    assert_eq!(client.fake.count("/order"), 1);
}

#[tokio::test]
async fn a_ca_that_can_do_no_more_is_left_alone_by_all() {
    let busy = |path: &str, _: &Value| {
        (path == "/order").then(|| problem(503, "serverInternal", "retry-after: 18446744073709551615\r\n"))
    };
    let client = Client::of(busy).await;
    let first = client.refused().await;
    assert_eq!((first.kind, first.wait), (Failing::Outage, Some(crate::certs::schedule::TOLD_MAX)));
    let second = client.refused().await;
    assert_eq!((second.reason, client.fake.count("/order")), (first.reason, 1));
}

#[tokio::test]
async fn what_is_our_own_doing_is_no_refusal() {
    let client = Client::of(|_, _| None).await;
    let request = Request {
        name: "a.example",
        acme: &client.acme,
        authority: &client.acme.authorities[0],
        challenges: &[],
        turn: 0,
        begun: None,
        stranger: false,
        patience: Duration::from_secs(5),
        cleanups: &Arc::default(),
        replaces: None,
    };
    let keep = |_: &Begun| Err("the disk is full".to_owned());
    let refusal = obtain(request, &client.accounts, &Arc::default(), &keep).await.err().unwrap();
    assert_eq!((&*refusal.reason, refusal.kind), ("the disk is full", Failing::Outage));
}

#[tokio::test]
async fn when_to_renew_is_heard() {
    let client = Client::of(|path, _| {
        let window = r#"{"suggestedWindow":{"start":"2030-01-02T04:00:00Z","end":"2030-01-03T04:00:00Z"}}"#;
        path.starts_with("/renewal/").then(|| (200, "retry-after: 21600\r\n".to_owned(), window.to_owned()))
    })
    .await;
    let account = client.accounts.of(&client.acme.authorities[0], &client.acme).await.ok().unwrap();
    let told = suggested(&account, &identifier_of_ours()).await.unwrap();
    assert_eq!(told.0, [1_893_556_800, 1_893_643_200]);
    assert!((21_590..=21_600).contains(&told.1.as_secs()));
}

#[tokio::test]
async fn when_to_renew_is_heard_from_who_does_not_say_when_again_and_not_from_who_turns_time_round() {
    let turn = AtomicUsize::new(0);
    let client = Client::of(move |path, _| {
        let window = |start: u8, end: u8| {
            let [start, end] = [start, end].map(|day| format!("2030-01-{day:02}T04:00:00Z"));
            json!({ "suggestedWindow": { "start": start, "end": end } }).to_string()
        };
        let turn = if path.starts_with("/renewal/") { turn.fetch_add(1, Relaxed) } else { return None };
        match turn {
            0 => Some((200, String::new(), window(2, 3))),
            1 => Some((200, "retry-after: soon\r\n".to_owned(), window(2, 3))),
            2 => Some((200, "retry-after: 60\r\n".to_owned(), window(3, 2))),
            _ => Some((200, "retry-after: 60\r\n".to_owned(), window(3, 3))),
        }
    })
    .await;
    let account = client.accounts.of(&client.acme.authorities[0], &client.acme).await.ok().unwrap();
    let id = identifier_of_ours();
    for _ in 0..2 {
        let (window, again) = suggested(&account, &id).await.unwrap();
        assert_eq!(window, [1_893_556_800, 1_893_643_200]);
        assert!((21_590..=21_600).contains(&again.as_secs()));
    }
    for _ in 0..2 {
        assert!(suggested(&account, &id).await.is_none());
    }
}

/// A store that can be read, and written so often.
#[derive(Debug)]
struct Tired {
    inner: Memory,
    left: AtomicUsize,
}

impl Store for Tired {
    fn read(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
        self.inner.read(key)
    }

    fn write(&self, key: &str, value: &[u8]) -> io::Result<()> {
        let left = self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        left.map_err(|_| io::Error::from(io::ErrorKind::StorageFull))?;
        self.inner.write(key, value)
    }

    fn remove(&self, key: &str) -> io::Result<()> {
        self.inner.remove(key)
    }

    fn lock(&self, key: &str) -> io::Result<Option<Box<dyn Held>>> {
        self.inner.lock(key)
    }

    fn place(&self, key: &str) -> String {
        key.to_owned()
    }
}

#[tokio::test]
async fn an_account_is_made_once_even_where_it_cannot_be_kept() {
    let store = |left| Arc::new(Tired { inner: Memory::default(), left: AtomicUsize::new(left) });
    // Nothing at all can be written: the CA is not asked.
    let client = Client::keeping(store(0), |_, _| None).await;
    assert_eq!(client.refused().await.kind, Failing::Outage);
    assert_eq!(client.fake.count("/account"), 0);
    // The disk gets full at that moment.
    let client = Client::keeping(store(1), |_, _| None).await;
    client.obtain(None).await.unwrap();
    client.obtain(None).await.unwrap();
    assert_eq!(client.fake.count("/account"), 1);
    // One that was never made is not taken for a broken one.
    let kept = store(2);
    let client = Client::keeping(Arc::clone(&kept) as Arc<dyn Store>, |_, _| None).await;
    let key = format!(
        "acme/accounts/{}_directory.json",
        client.fake.url("").replace("http://", "").replace(':', "_")
    );
    kept.inner.write(&key, b"").unwrap();
    client.obtain(None).await.unwrap();
    assert!(!kept.read(&key).unwrap().unwrap().is_empty());
}

#[tokio::test]
async fn a_key_is_kept_before_the_ca_hears_of_it_and_asks_for_the_same_account_again() {
    let store = Arc::new(Memory::default());
    let (seen, kept_first) = (Arc::clone(&store), Arc::new(Mutex::new(Vec::new())));
    let (first, turn) = (Arc::clone(&kept_first), AtomicUsize::new(0));
    let mut client = Client::keeping(Arc::clone(&store) as Arc<dyn Store>, move |path, _| {
        let location = "location: http://127.0.0.1:1/account/1\r\n".to_owned();
        match (path, if path == "/account" { turn.fetch_add(1, Relaxed) } else { 0 }) {
            // The answer is lost.
            ("/account", 0) => {
                *first.lock().unwrap() = seen.values("acme/accounts/");
                Some((500, String::new(), String::new()))
            }
            ("/account", _) => Some((200, location, json!({ "status": "valid" }).to_string())),
            _ => None,
        }
    })
    .await;
    client.acme.email = vec!["ops@example.com".to_owned()];
    let external = json!({ "id": "kid-1", "key": "c2VjcmV0" });
    client.acme.authorities[0].external_account = serde_json::from_value(external).unwrap();
    client.refused().await;
    let kept: Value = serde_json::from_slice(&kept_first.lock().unwrap()[0]).unwrap();
    client.obtain(None).await.unwrap();
    let introduced = client.fake.introduced();
    let [(one, said), (other, _)] = &introduced[..] else { panic!("{introduced:?}") };
    assert_eq!(one, other);
    assert_eq!(said["contact"], json!(["mailto:ops@example.com"]));
    assert!(said["externalAccountBinding"]["signature"].is_string() && kept["credentials"]["id"].is_null());
    let now: Value = serde_json::from_slice(&store.values("acme/accounts/")[0]).unwrap();
    assert_eq!(now["credentials"]["key_pkcs8"], kept["credentials"]["key_pkcs8"]);
    assert_eq!(now["credentials"]["id"], "http://127.0.0.1:1/account/1");
}

#[tokio::test]
async fn an_account_is_kept_until_the_ca_has_accepted_the_one_that_takes_its_place() {
    let store = Arc::new(Memory::default());
    let (seen, before) = (Arc::clone(&store), Arc::new(Mutex::new(Value::Null)));
    let (last, turn) = (Arc::clone(&before), AtomicUsize::new(0));
    let mut client = Client::keeping(Arc::clone(&store) as Arc<dyn Store>, move |path, sent| {
        let external = sent["externalAccountBinding"]["protected"].as_str()?;
        let named = BASE64_URL_SAFE_NO_PAD.decode(external).unwrap();
        let named = serde_json::from_slice::<Value>(&named).unwrap()["kid"].clone();
        *last.lock().unwrap() = serde_json::from_slice(&seen.values("acme/accounts/")[0]).unwrap();
        if named == "a-mistake" {
            return Some(problem(403, "unauthorized", ""));
        }
        let location = format!("location: {path}/{}\r\n", turn.fetch_add(1, Relaxed));
        Some((201, location, json!({ "status": "valid" }).to_string()))
    })
    .await;
    let kept = || serde_json::from_slice::<Value>(&store.values("acme/accounts/")[0]).unwrap();
    let reload = |client: &mut Client, name: &str| {
        client.accounts = accounts_in(Arc::clone(&store) as Arc<dyn Store>);
        let external = json!({ "id": name, "key": "c2VjcmV0" });
        client.acme.authorities[0].external_account = serde_json::from_value(external).unwrap();
    };
    reload(&mut client, "kid-1");
    client.obtain(None).await.unwrap();
    let first = kept();
    for _ in 0..2 {
        reload(&mut client, "a-mistake");
        assert!(client.refused().await.reason.contains("unauthorized"));
    }
    let introduced = client.fake.introduced();
    assert_eq!(introduced[1].0, introduced[2].0, "it asks with the same key again");
    let (now, heard) = (kept(), before.lock().unwrap().clone());
    assert_eq!((&now["external"], &now["credentials"]), (&first["external"], &first["credentials"]));
    assert_eq!((&heard["next"]["external"], &heard), (&json!("a-mistake"), &now));
    // The mistake is corrected, and nobody need be asked for anything.
    reload(&mut client, "kid-1");
    client.obtain(None).await.unwrap();
    assert_eq!((client.fake.count("/account"), &kept()["credentials"]), (3, &first["credentials"]));
    reload(&mut client, "kid-2");
    client.obtain(None).await.unwrap();
    let (now, heard) = (kept(), before.lock().unwrap().clone());
    assert_eq!((&now["external"], &now["next"]), (&json!("kid-2"), &Value::Null));
    assert_eq!(now["credentials"]["key_pkcs8"], heard["next"]["credentials"]["key_pkcs8"]);
    assert_eq!(now["credentials"]["id"], "/account/1");
}

#[tokio::test]
async fn all_who_hear_that_an_account_is_unknown_make_one_together() {
    let store = Arc::new(Memory::default());
    let turn = AtomicUsize::new(0);
    let client = Client::keeping(Arc::clone(&store) as Arc<dyn Store>, move |path, _| {
        let location = || format!("location: /account/{}\r\n", turn.fetch_add(1, Relaxed));
        (path == "/account").then(|| (201, location(), json!({ "status": "valid" }).to_string()))
    })
    .await;
    let (accounts, authority) = (&client.accounts, &client.acme.authorities[0]);
    let unknown = accounts.of(authority, &client.acme).await.ok().unwrap();
    for _ in 0..3 {
        accounts.forget(authority, &unknown).await;
        assert_eq!(accounts.of(authority, &client.acme).await.ok().unwrap().id(), "/account/1");
    }
    // Another program has made it.
    let other = accounts_in(Arc::clone(&store) as Arc<dyn Store>);
    other.forget(authority, &unknown).await;
    assert_eq!(other.of(authority, &client.acme).await.ok().unwrap().id(), "/account/1");
    assert_eq!(client.fake.count("/account"), 2);
    // A CA that gives the names from before once more.
    let client = Client::of(|_, _| None).await;
    let (accounts, authority) = (&client.accounts, &client.acme.authorities[0]);
    let unknown = accounts.of(authority, &client.acme).await.ok().unwrap();
    for _ in 0..3 {
        accounts.forget(authority, &unknown).await;
        assert_eq!(accounts.of(authority, &client.acme).await.ok().unwrap().id(), unknown.id());
    }
    assert_eq!(client.fake.count("/account"), 2);
}

#[tokio::test]
async fn who_waits_while_another_one_finds_the_ca_gone_need_not_find_it_too() {
    let client =
        Client::of(|path, _| (path == "/directory").then(|| (500, String::new(), String::new()))).await;
    let (one, other) = tokio::join!(client.refused(), client.refused());
    assert_eq!((one.kind, other.kind), (Failing::Outage, Failing::Outage));
    assert_eq!(client.fake.count("/directory"), 1);
    client.refused().await;
    assert_eq!(client.fake.count("/directory"), 2, "who comes later looks for himself");
}
