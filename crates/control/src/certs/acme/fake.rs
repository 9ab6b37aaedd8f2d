//! fake: a CA that says what a test wants, over plain HTTP; it proves nothing and looks at no signature.

use super::Begun;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What is answered to one request: status, further lines of the head, body.
pub type Answer = (u16, String, String);
/// What a test wants to be answered for a path, to what was sent there; none: what a CA answers to whom it knows.
pub type Script = Box<dyn FnMut(&str, &Value) -> Option<Answer> + Send>;

/// A CA.
#[derive(Clone)]
pub struct Fake {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    script: Script,
    asked: Vec<String>,
    /// Which keys have been shown to it, by those who asked for an account, and what they have said beside.
    introduced: Vec<(Value, Value)>,
    /// The key that the certificate is for.
    key: Option<String>,
}

impl Fake {
    /// One that does as `script` says where that says anything.
    pub async fn new(script: impl FnMut(&str, &Value) -> Option<Answer> + Send + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let state = State { script: Box::new(script), asked: Vec::new(), introduced: Vec::new(), key: None };
        let fake = Fake { address: listener.local_addr().unwrap(), state: Arc::new(Mutex::new(state)) };
        let own = fake.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(own.clone().serve(stream));
            }
        });
        fake
    }

    /// A URL of it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// How often it was asked for this.
    pub fn count(&self, path: &str) -> usize {
        self.state.lock().unwrap().asked.iter().filter(|one| *one == path).count()
    }

    /// Which keys have been shown to it, and what was said with each.
    pub fn introduced(&self) -> Vec<(Value, Value)> {
        self.state.lock().unwrap().introduced.clone()
    }

    /// Hears of the key of an order, which it would know from what is signed.
    pub fn hear(&self, begun: &Begun) {
        self.state.lock().unwrap().key = Some(begun.key.clone());
    }

    /// An order that is in this state.
    pub fn order(&self, status: &str) -> String {
        json!({
            "status": status,
            "identifiers": [{ "type": "dns", "value": "a.example" }],
            "authorizations": [],
            "finalize": self.url("/finalize"),
            "certificate": self.url("/certificate"),
        })
        .to_string()
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut read = Vec::new();
        let (head, length) = loop {
            if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
            let text = String::from_utf8_lossy(&read).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let line = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length = line.map_or(0, |length| length.parse::<usize>().unwrap());
            if body.len() >= length {
                break (text.clone(), head.len() + 4);
            }
        };
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let sent: Value = serde_json::from_str(&head[length..]).unwrap_or_default();
        let [head_sent, payload] = ["protected", "payload"].map(|part| {
            let bytes = BASE64_URL_SAFE_NO_PAD.decode(sent[part].as_str().unwrap_or("")).unwrap();
            serde_json::from_slice::<Value>(&bytes).unwrap_or_default()
        });
        if head_sent["jwk"].is_object() {
            let introduced = (head_sent["jwk"].clone(), payload.clone());
            self.state.lock().unwrap().introduced.push(introduced);
        }
        let (status, lines, body) = self.answer(&path, &payload);
        let length = if head.starts_with("HEAD") { 0 } else { body.len() };
        let answer = format!(
            "HTTP/1.1 {status} x\r\nreplay-nonce: abc\r\ncontent-length: {length}\r\n{lines}\r\n{}",
            &body[..length]
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
    }

    fn answer(&self, path: &str, sent: &Value) -> Answer {
        let mut state = self.state.lock().unwrap();
        state.asked.push(path.to_owned());
        if let Some(answer) = (state.script)(path, sent) {
            return answer;
        }
        let plain = |status, body: String| (status, String::new(), body);
        match path {
            "/directory" => plain(200, self.directory()),
            "/account" => (
                201,
                format!("location: {}\r\n", self.url("/account/1")),
                json!({ "status": "valid" }).to_string(),
            ),
            "/order" => (201, format!("location: {}\r\n", self.url("/order/1")), self.order("ready")),
            "/order/1" | "/finalize" => plain(200, self.order("valid")),
            "/certificate" => {
                let key = KeyPair::from_pem(state.key.as_deref().unwrap()).unwrap();
                let params = CertificateParams::new(["a.example".to_owned()]).unwrap();
                plain(200, params.self_signed(&key).unwrap().pem())
            }
            _ => plain(200, String::new()),
        }
    }

    fn directory(&self) -> String {
        let [nonce, account, order, renewal] =
            ["/nonce", "/account", "/order", "/renewal"].map(|path| self.url(path));
        json!({ "newNonce": nonce, "newAccount": account, "newOrder": order, "renewalInfo": renewal })
            .to_string()
    }
}

/// A refusal of this kind.
pub fn problem(status: u16, kind: &str, lines: &str) -> Answer {
    let body =
        json!({ "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": "no", "status": status });
    (status, lines.to_owned(), body.to_string())
}
