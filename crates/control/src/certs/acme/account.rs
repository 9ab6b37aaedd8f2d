//! account: who we are for a CA; made once, kept in the store, and made anew when the CA does not know it any more.

use super::client::Web;
use super::{Acme, AcmeAuthority, Refusal};
use crate::automatic::Store;
use crate::certs::schedule::Failing;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use instant_acme::{Account, AccountCredentials, Error, ExternalAccountKey, NewAccount};
use portunus_relay::tls::Roots;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The accounts with all CAs.
pub struct Accounts {
    store: Arc<dyn Store>,
    roots: HashMap<Option<PathBuf>, Arc<Roots>>,
    /// Guards the accounts that are known to be good, by the directory of their CA.
    known: Mutex<HashMap<String, Known>>,
    /// Held while one is made, so that none is made twice.
    making: tokio::sync::Mutex<()>,
}

/// An account, and how its CA is spoken with.
#[derive(Clone)]
pub struct Known {
    /// The account.
    pub account: Account,
    /// How its CA is spoken with.
    pub web: Web,
}

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
    pub fn new(store: Arc<dyn Store>, roots: HashMap<Option<PathBuf>, Arc<Roots>>) -> Accounts {
        Accounts { store, roots, known: Mutex::default(), making: tokio::sync::Mutex::default() }
    }

    /// How this CA is spoken with.
    pub fn web(&self, trust: &Option<PathBuf>) -> Result<Web, String> {
        let roots = self.roots.get(trust).ok_or("it is not known whom to believe")?;
        Web::new(Some(roots))
    }

    /// The account with this CA.
    pub async fn of(&self, authority: &AcmeAuthority, acme: &Acme) -> Result<Known, Refusal> {
        let _making = self.making.lock().await;
        if let Some(known) = self.lock().get(&authority.directory) {
            return Ok(known.clone());
        }
        let web = self.web(&authority.trust).map_err(Refusal::own)?;
        let opened = self.open(authority, acme, &web).await;
        let account = opened.map_err(|reason| {
            let heard = web.heard();
            let kind = match &reason {
                Trouble::Refused(_) if heard.outage.is_none() => Failing::Refused,
                _ => Failing::Outage,
            };
            let told = heard.outage.clone().unwrap_or(reason.text());
            Refusal { reason: told, kind, wait: heard.retry_after }
        })?;
        let known = Known { account, web };
        self.lock().insert(authority.directory.clone(), known.clone());
        Ok(known)
    }

    async fn open(&self, authority: &AcmeAuthority, acme: &Acme, web: &Web) -> Result<Account, Trouble> {
        let contact: Vec<String> = acme.email.iter().map(|address| format!("mailto:{address}")).collect();
        let contact_words: Vec<&str> = contact.iter().map(String::as_str).collect();
        let external = authority.external_account.as_ref();
        let builder = || Account::builder_with_http(Box::new(web.clone()));
        let refused = |error| Trouble::of(authority, error);
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
                    self.keep(authority, &kept).map_err(Trouble::Own)?;
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
        let created = builder().create(&new, authority.directory.clone(), key.as_ref()).await;
        let (account, credentials) = created.map_err(refused)?;
        let kept = Kept { contact, external: external.map(|account| account.id.clone()), credentials };
        self.keep(authority, &kept).map_err(Trouble::Own)?;
        Ok(account)
    }

    fn kept(&self, authority: &AcmeAuthority) -> Result<Option<Kept>, String> {
        let key = key(authority);
        let told = |reason: String| format!("{}: {reason}", self.store.place(&key));
        let Some(bytes) = self.store.read(&key).map_err(|error| told(error.to_string()))? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| told(error.to_string()))
    }

    fn keep(&self, authority: &AcmeAuthority, kept: &Kept) -> Result<(), String> {
        let key = key(authority);
        let bytes = serde_json::to_vec_pretty(kept).map_err(|error| error.to_string())?;
        self.store.write(&key, &bytes).map_err(|error| format!("{}: {error}", self.store.place(&key)))
    }

    /// The CA does not know the account any more.
    pub fn forget(&self, authority: &AcmeAuthority) {
        self.drop_connection(authority);
        // What cannot be removed is found to be unknown again.
        let _ = self.store.remove(&key(authority));
    }

    /// What is known of the CA may have changed.
    pub fn drop_connection(&self, authority: &AcmeAuthority) {
        self.lock().remove(&authority.directory);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
