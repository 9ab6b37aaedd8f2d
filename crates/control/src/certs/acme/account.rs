//! account: who we are for a CA; made once, kept in the store, and made anew when the CA does not know it any more.

use super::client::{Web, hearing};
use super::patience::Patience;
use super::{Acme, AcmeAuthority, Refusal};
use crate::automatic::{Held, Store};
use crate::certs::schedule::Failing;
use crate::observe::log;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use instant_acme::{Account, AccountCredentials, Error, ExternalAccountKey, NewAccount};
use portunus_relay::tls::Roots;
use serde::{Deserialize, Serialize};
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
#[derive(Serialize, Deserialize)]
struct Kept {
    contact: Vec<String>,
    /// The name of the account that the operator had before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    external: Option<String>,
    credentials: AccountCredentials,
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
        let making = Arc::clone(lock(&self.making).entry(directory.clone()).or_default());
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
        Err(told("another program has been making it for a long time".to_owned()))
    }

    async fn open(&self, authority: &AcmeAuthority, acme: &Acme, web: &Web) -> Result<Account, Trouble> {
        let contact: Vec<String> = acme.email.iter().map(|address| format!("mailto:{address}")).collect();
        let contact_words: Vec<&str> = contact.iter().map(String::as_str).collect();
        let external = authority.external_account.as_ref();
        let builder = || Account::builder_with_http(Box::new(web.clone()));
        let refused = |error| Trouble::of(authority, error);
        let _held = self.hold(authority).await?;
        let kept = self.kept(authority).map_err(Trouble::Own)?;
        let kept = kept.filter(|kept| kept.external.as_ref() == external.map(|account| &account.id));
        if let Some(mut kept) = kept {
            let credentials = copy(&kept.credentials).map_err(Trouble::Own)?;
            let account = builder().from_credentials(credentials).await.map_err(refused)?;
            if kept.contact == contact {
                return Ok(account);
            }
            match account.update_contacts(&contact_words).await {
                Ok(()) => {
                    kept.contact = contact;
                    self.keep_or_tell(authority, &kept);
                    return Ok(account);
                }
                Err(Error::Api(problem)) if super::is_of(&problem, "accountDoesNotExist") => {}
                Err(error) => return Err(refused(error)),
            }
        }
        let key = external.map(|account| {
            let bytes = BASE64_URL_SAFE_NO_PAD.decode(account.key.value.trim_end_matches('='));
            bytes.map(|bytes| ExternalAccountKey::new(account.id.clone(), &bytes))
        });
        let key = key.transpose().map_err(|error| Trouble::Own(format!("`eab-key` is broken: {error}")))?;
        let new = NewAccount {
            contact: &contact_words,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        // One that could not be kept would be made again and again, so it is seen first whether it can be.
        let before = self.store.read(&self::key(authority)).ok().flatten().unwrap_or_default();
        self.put(authority, &before).map_err(Trouble::Own)?;
        let created = builder().create(&new, authority.directory.clone(), key.as_ref()).await;
        let (account, credentials) = created.map_err(refused)?;
        let kept = Kept { contact, external: external.map(|account| account.id.clone()), credentials };
        self.keep_or_tell(authority, &kept);
        Ok(account)
    }

    fn kept(&self, authority: &AcmeAuthority) -> Result<Option<Kept>, String> {
        let key = key(authority);
        let told = |reason: String| format!("{}: {reason}", self.store.place(&key));
        let Some(bytes) = self.store.read(&key).map_err(|error| told(error.to_string()))? else {
            return Ok(None);
        };
        // It was about to be made.
        if bytes.is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(&bytes).map(Some).map_err(|error| told(error.to_string()))
    }

    /// What the CA has done is used as long as the program runs, even if it cannot be kept.
    fn keep_or_tell(&self, authority: &AcmeAuthority, kept: &Kept) {
        let bytes = serde_json::to_vec_pretty(kept).map_err(|error| error.to_string());
        if let Err(reason) = bytes.and_then(|bytes| self.put(authority, &bytes)) {
            let directory = &authority.directory;
            log::warn(format_args!("the account with {directory} ends with the program: {reason}"));
        }
    }

    fn put(&self, authority: &AcmeAuthority, bytes: &[u8]) -> Result<(), String> {
        let key = key(authority);
        self.store.write(&key, bytes).map_err(|error| format!("{}: {error}", self.store.place(&key)))
    }

    /// The CA does not know the account any more.
    pub fn forget(&self, authority: &AcmeAuthority) {
        self.drop_connection(authority);
        // What cannot be removed is found to be unknown again.
        let _ = self.store.remove(&key(authority));
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

/// They cannot be cloned, only written and read.
fn copy(credentials: &AccountCredentials) -> Result<AccountCredentials, String> {
    let value = serde_json::to_value(credentials).map_err(|error| error.to_string())?;
    serde_json::from_value(value).map_err(|error| error.to_string())
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
