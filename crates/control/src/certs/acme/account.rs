//! account: who we are for a CA; its key is kept in the store before the CA hears of it, and it is made anew when the CA does not know it any more.

use super::client::{self, Web, hearing};
use super::introduction::{Who, introduce};
use super::patience::Patience;
use super::{Acme, AcmeAuthority, Refusal};
use crate::automatic::{Held, Store};
use crate::certs::schedule::Failing;
use crate::observe::log;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hyper::StatusCode;
use instant_acme::{Account, AccountCredentials, Error, Key};
use portunus_relay::tls::Roots;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The accounts with all CAs.
pub struct Accounts {
    store: Arc<dyn Store>,
    roots: HashMap<Option<PathBuf>, Arc<Roots>>,
    /// Which CAs want to be left alone.
    pub patience: Arc<Patience>,
    /// Guards the accounts that are known to be good, by the directory of their CA.
    known: Mutex<HashMap<String, Account>>,
    /// Guards who opens one, by the directory of its CA.
    making: Mutex<HashMap<String, Arc<Making>>>,
}

/// Held while an account is opened, so that none is made twice: when that has failed of late, and why.
type Making = tokio::sync::Mutex<Option<(Instant, Refusal)>>;

/// What the store has of it.
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    contact: Vec<String>,
    /// The name of the account that the operator had before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    external: Option<String>,
    credentials: Credentials,
    /// What takes its place as soon as the CA has accepted it: the operator names another account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<Box<Kept>>,
}

/// What the library calls so; what it adds of its own is kept.
#[derive(Clone, Serialize, Deserialize)]
struct Credentials {
    /// What the CA calls the account; none: it has not said so yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    key_pkcs8: String,
    #[serde(flatten)]
    further: serde_json::Map<String, Value>,
}

impl Credentials {
    /// With a new key, for the CA with this directory.
    fn new(directory: &str) -> Result<Credentials, String> {
        let (_, key) = Key::generate_pkcs8().map_err(|error| error.to_string())?;
        let further = serde_json::Map::from_iter([("directory".to_owned(), directory.into())]);
        Ok(Credentials {
            id: None,
            key_pkcs8: BASE64_URL_SAFE_NO_PAD.encode(key.secret_pkcs8_der()),
            further,
        })
    }

    fn key(&self) -> Result<Vec<u8>, String> {
        BASE64_URL_SAFE_NO_PAD.decode(&self.key_pkcs8).map_err(|error| error.to_string())
    }

    fn read(&self) -> Result<AccountCredentials, String> {
        let value = serde_json::to_value(self).map_err(|error| error.to_string())?;
        serde_json::from_value(value).map_err(|error| error.to_string())
    }
}

impl Accounts {
    /// Those in this store; `roots` are believed when CAs are spoken with.
    pub fn new(
        store: Arc<dyn Store>,
        roots: HashMap<Option<PathBuf>, Arc<Roots>>,
        patience: Arc<Patience>,
    ) -> Accounts {
        Accounts { store, roots, patience, known: Mutex::default(), making: Mutex::default() }
    }

    /// The account with this CA.
    pub async fn of(&self, authority: &AcmeAuthority, acme: &Acme) -> Result<Account, Refusal> {
        let directory = &authority.directory;
        if let Some(refusal) = self.patience.refusal(directory) {
            return Err(refusal);
        }
        let began = Instant::now();
        let making = self.making(authority);
        let mut failed = making.lock().await;
        if let Some(account) = lock(&self.known).get(directory) {
            return Ok(account.clone());
        }
        // Whoever has waited while somebody else failed need not wait for the same again.
        if let Some((_, refusal)) = failed.as_ref().filter(|(at, _)| *at >= began) {
            return Err(refusal.clone());
        }
        let roots = self.roots.get(&authority.trust);
        let roots = roots.ok_or_else(|| Refusal::own("it is not known whom to believe"))?;
        let web = Web::new(Some(roots)).map_err(Refusal::own)?;
        let (opened, heard) = hearing(self.open(authority, acme, &web)).await;
        let account = opened.map_err(|reason| {
            let kind = match &reason {
                Trouble::Refused(_) if heard.outage.is_none() => Failing::Refused,
                _ => Failing::Outage,
            };
            let told = heard.outage.clone().unwrap_or(reason.text());
            self.patience.heed(directory, &heard, false, &told);
            if heard.outage.is_some() {
                self.patience.unanswered(directory, &told);
            }
            let refusal = Refusal { reason: told, kind, wait: heard.retry_after };
            *failed = Some((Instant::now(), refusal.clone()));
            refusal
        })?;
        lock(&self.known).insert(directory.clone(), account.clone());
        Ok(account)
    }

    /// The right to make the account, or to write what is known of it.
    async fn hold(&self, authority: &AcmeAuthority) -> Result<Box<dyn Held>, Trouble> {
        let key = key(authority);
        let told = |reason: String| Trouble::Own(format!("{}: {reason}", self.store.place(&key)));
        for _ in 0..LOOKS {
            if let Some(held) = self.store.lock(&key).map_err(|error| told(error.to_string()))? {
                return Ok(held);
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        Err(told("it has been in the making for a long time, by another program or by the configuration before this one".to_owned()))
    }

    async fn open(&self, authority: &AcmeAuthority, acme: &Acme, web: &Web) -> Result<Account, Trouble> {
        let contact: Vec<String> = acme.email.iter().map(|address| format!("mailto:{address}")).collect();
        let _held = self.hold(authority).await?;
        let mut kept = self.kept_or_new(authority, &contact).map_err(Trouble::Own)?;
        if kept.credentials.id.is_none() {
            self.introduce(authority, &mut kept, &contact, web).await?;
        }
        let account = opened(authority, &kept, web).await?;
        if kept.contact == contact {
            return Ok(account);
        }
        let words: Vec<&str> = contact.iter().map(String::as_str).collect();
        match account.update_contacts(&words).await {
            Ok(()) => {
                kept.contact = contact;
                self.keep_or_tell(authority, &kept);
                Ok(account)
            }
            Err(Error::Api(problem)) if super::is_of(&problem, "accountDoesNotExist") => {
                self.introduce(authority, &mut kept, &contact, web).await?;
                opened(authority, &kept, web).await
            }
            Err(error) => Err(Trouble::of(authority, error)),
        }
    }

    /// What is kept. A new key is kept before anybody hears of it: whatever becomes of the first answer, the CA is asked with the same key again,
    /// and gives the account that it has made for it. An account that the CA has made stays beside the new key: what is written now may be a mistake.
    fn kept_or_new(&self, authority: &AcmeAuthority, contact: &[String]) -> Result<Kept, String> {
        let external = authority.external_account.as_ref().map(|account| &account.id);
        let is_meant = |kept: &Kept| kept.external.as_ref() == external;
        let mut former = self.kept(authority)?;
        if let Some(kept) = former.take_if(|kept| is_meant(kept)) {
            return Ok(kept);
        }
        if let Some(next) = former.as_mut().and_then(|former| former.next.take_if(|next| is_meant(next))) {
            return Ok(*next);
        }
        let credentials = Credentials::new(&authority.directory)?;
        let new = Kept { contact: contact.to_vec(), external: external.cloned(), credentials, next: None };
        let written = match former.filter(|former| former.credentials.id.is_some()) {
            Some(former) => Kept { next: Some(Box::new(new.clone())), ..former },
            None => new.clone(),
        };
        self.keep(authority, &written)?;
        Ok(new)
    }

    /// Asks the CA for the account that belongs to the key.
    async fn introduce(
        &self,
        authority: &AcmeAuthority,
        kept: &mut Kept,
        contact: &[String],
        web: &Web,
    ) -> Result<(), Trouble> {
        let external = authority.external_account.as_ref().map(|account| {
            let bytes = BASE64_URL_SAFE_NO_PAD.decode(account.key.value.trim_end_matches('='));
            bytes.map(|bytes| (account.id.clone(), bytes))
        });
        let external =
            external.transpose().map_err(|error| Trouble::Own(format!("`eab-key` is broken: {error}")))?;
        let key = kept.credentials.key().map_err(Trouble::Own)?;
        let who = Who { contact: contact.to_vec(), external };
        let id = introduce(web.clone(), &authority.directory, key, who).await;
        kept.credentials.id = Some(id.map_err(|error| Trouble::of(authority, error))?);
        // One that it has had already stays as it was.
        if client::heard().status != Some(StatusCode::OK) {
            kept.contact = contact.to_vec();
        }
        self.keep_or_tell(authority, kept);
        Ok(())
    }

    fn kept(&self, authority: &AcmeAuthority) -> Result<Option<Kept>, String> {
        let key = key(authority);
        let told = |reason: String| format!("{}: {reason}", self.store.place(&key));
        let Some(bytes) = self.store.read(&key).map_err(|error| told(error.to_string()))? else {
            return Ok(None);
        };
        // Nothing was kept when it was made, by an earlier version.
        if bytes.is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(&bytes).map(Some).map_err(|error| told(error.to_string()))
    }

    /// What the CA has said is used as long as the program runs, even if it cannot be kept.
    fn keep_or_tell(&self, authority: &AcmeAuthority, kept: &Kept) {
        if let Err(reason) = self.keep(authority, kept) {
            let directory = &authority.directory;
            log::warn(format_args!("{directory} is asked for the account again after a restart: {reason}"));
        }
    }

    fn keep(&self, authority: &AcmeAuthority, kept: &Kept) -> Result<(), String> {
        let key = key(authority);
        let bytes = serde_json::to_vec_pretty(kept).map_err(|error| error.to_string())?;
        self.store.write(&key, &bytes).map_err(|error| format!("{}: {error}", self.store.place(&key)))
    }

    /// The CA does not know this account any more. Several hear of that one after the other: the one that the first has made since stays.
    pub async fn forget(&self, authority: &AcmeAuthority, unknown: &Account) {
        let making = self.making(authority);
        let _making = making.lock().await;
        let known = lock(&self.known).get(&authority.directory).cloned();
        if known.is_some_and(|known| known.key_thumbprint() != unknown.key_thumbprint()) {
            return;
        }
        self.drop_connection(authority);
        // What cannot be removed is found to be unknown again.
        let Ok(_held) = self.hold(authority).await else { return };
        let kept = self.kept(authority).ok().flatten();
        if kept.is_some_and(|kept| kept.credentials.id.as_deref() == Some(unknown.id())) {
            let _ = self.store.remove(&key(authority));
        }
    }

    fn making(&self, authority: &AcmeAuthority) -> Arc<Making> {
        Arc::clone(lock(&self.making).entry(authority.directory.clone()).or_default())
    }

    /// What is known of the CA may have changed.
    pub fn drop_connection(&self, authority: &AcmeAuthority) {
        lock(&self.known).remove(&authority.directory);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why there is no account.
enum Trouble {
    /// For reasons of our own.
    Own(String),
    /// The CA does not want us, or is none.
    Refused(String),
}

impl Trouble {
    fn of(authority: &AcmeAuthority, error: Error) -> Trouble {
        Trouble::Refused(match error {
            Error::Api(problem) => format!("no account: {}", super::told(&problem)),
            Error::Json(_) => {
                format!("`{}` is not the directory of a CA that speaks ACME", authority.directory)
            }
            other => format!("no account: {other}"),
        })
    }

    fn text(self) -> String {
        match self {
            Trouble::Own(text) | Trouble::Refused(text) => text,
        }
    }
}

/// The account that the CA has given a name.
async fn opened(authority: &AcmeAuthority, kept: &Kept, web: &Web) -> Result<Account, Trouble> {
    let credentials = kept.credentials.read().map_err(Trouble::Own)?;
    let builder = Account::builder_with_http(Box::new(web.clone()));
    builder.from_credentials(credentials).await.map_err(|error| Trouble::of(authority, error))
}

fn key(authority: &AcmeAuthority) -> String {
    format!("acme/accounts/{}.json", plain(&authority.directory))
}

/// The URL of a directory as the name of a file.
fn plain(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' }).collect()
}

/// How often, and how long apart, it is looked whether another program has made it.
const LOOKS: usize = 100;
const LOOK_PAUSE: Duration = Duration::from_millis(100);
