//! acme: one certificate from one CA (RFC 8555): account, order, proof, certificate; what can be taken up again after a restart is kept.

mod account;
mod cleanups;
mod client;
#[cfg(test)]
mod fake;
mod introduction;
mod patience;
#[cfg(feature = "acme-dns")]
mod providers;
#[cfg(not(feature = "acme-dns"))]
#[path = "no_providers.rs"]
mod providers;
mod show;
#[cfg(test)]
mod tests;

pub use account::Accounts;
pub use cleanups::Cleanups;
pub use client::{Web, identifier};
pub use patience::Patience;
pub use providers::HAS_PROVIDERS;

use super::schedule::Failing;
use crate::automatic::subject;
use client::{Heard, hearing};
use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeStatus, ChallengeType, Identifier,
    NewOrder, Order, OrderStatus, Problem, RetryPolicy,
};
use portunus_relay::challenges::Challenges;
use portunus_relay::plan::{Acme, AcmeAuthority, Challenge, Dns, DnsHook};
use portunus_relay::tls::Certificate;
use rcgen::{CertificateParams, KeyPair};
use serde::{Deserialize, Serialize};
use show::Shown;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is asked for.
pub struct Request<'a> {
    /// The name, or the address.
    pub name: &'a str,
    /// How certificates are got.
    pub acme: &'a Acme,
    /// Of whom.
    pub authority: &'a AcmeAuthority,
    /// How it can be shown that the name is ours, the preferred first.
    pub challenges: &'a [Challenge],
    /// How many tries before this one a CA has refused.
    pub turn: u32,
    /// What was begun and did not come to its end.
    pub begun: Option<Begun>,
    /// Whether somebody asks for the name that nobody wrote down.
    pub stranger: bool,
    /// How long the CA has for each of its decisions, before somebody else's turn comes.
    pub patience: Duration,
    /// Who is told of records that are taken away again.
    pub cleanups: &'a Arc<Cleanups>,
    /// The certificate that the new one takes the place of, when the CA wants to know.
    pub replaces: Option<CertificateIdentifier<'a>>,
}

/// An order that has not come to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// The CA.
    pub directory: String,
    /// Where it has the order.
    pub url: String,
    /// The key that the certificate will be for, in PEM.
    pub key: String,
}

/// What came of it.
pub struct Obtained {
    /// Chain and key, in PEM.
    pub pem: String,
    /// The same, read.
    pub certificate: Arc<Certificate>,
}

/// Why there is no certificate.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// In words; in the CA's own when it has said anything.
    pub reason: String,
    /// Whether the CA has counted it.
    pub kind: Failing,
    /// How long the CA wants to be left alone.
    pub wait: Option<Duration>,
}

impl Refusal {
    /// For a reason of our own, before the CA has heard of it.
    pub fn own(reason: impl Into<String>) -> Refusal {
        Refusal { reason: reason.into(), kind: Failing::Outage, wait: None }
    }
}

/// Gets a certificate. `keep` is told of the order as soon as there is one, so that it can be taken up again.
pub async fn obtain(
    request: Request<'_>,
    accounts: &Accounts,
    challenges: &Arc<Challenges>,
    keep: &dyn Fn(&Begun) -> Result<(), String>,
) -> Result<Obtained, Refusal> {
    let mut account = accounts.of(request.authority, request.acme).await?;
    let mut outcome = hearing(run(&request, &account, challenges, keep)).await.0;
    // A CA that was set up anew knows nobody.
    if matches!(&outcome, Err(Failed { what: What::Problem(problem), .. }) if is_of(problem, "accountDoesNotExist"))
    {
        accounts.forget(request.authority, &account).await;
        account = accounts.of(request.authority, request.acme).await?;
        outcome = hearing(run(&request, &account, challenges, keep)).await.0;
    }
    if outcome.is_ok() {
        accounts.patience.answered(&request.authority.directory);
    }
    outcome.map_err(|Failed { what, heard }| {
        let refusal = match (heard.outage.clone(), what) {
            (Some(reason), _) => {
                accounts.drop_connection(request.authority);
                accounts.patience.unanswered(&request.authority.directory, &reason);
                Refusal { reason, kind: Failing::Outage, wait: heard.retry_after }
            }
            (None, What::Problem(problem)) => {
                Refusal { reason: told(&problem), kind: Failing::Refused, wait: heard.retry_after }
            }
            (None, What::Refused(reason)) => {
                Refusal { reason, kind: Failing::Refused, wait: heard.retry_after }
            }
            (None, What::Own(reason)) => Refusal::own(reason),
            (None, What::Late(wait)) => {
                let reason = "the CA has not come to a decision yet".to_owned();
                Refusal { reason, kind: Failing::Outage, wait }
            }
        };
        accounts.patience.heed(&request.authority.directory, &heard, request.stranger, &refusal.reason);
        refusal
    })
}

/// When the CA wants this certificate to be renewed, and when it wants to be asked for that again (RFC 9773 §4.1). A window that does not end
/// after it has begun is as good as no answer (§4.2).
pub async fn suggested(account: &Account, id: &CertificateIdentifier<'_>) -> Option<([u64; 2], Duration)> {
    let (told, again) = account.renewal_info(id).await.ok()?;
    let window = [told.suggested_window.start, told.suggested_window.end];
    (window[0] < window[1]).then_some(())?;
    Some((window.map(|at| u64::try_from(at.unix_timestamp()).unwrap_or(0)), again))
}

/// Why an order has come to no good end, yet or at all.
struct Failed {
    what: What,
    /// What was heard when it became known.
    heard: Heard,
}

enum What {
    /// The CA has said why.
    Problem(Problem),
    /// The CA wants nothing more of it, or gives something that is of no use.
    Refused(String),
    /// It is our own doing. The order stays as it is.
    Own(String),
    /// The CA takes its time, and wants to be asked again after so long. The order stays as it is.
    Late(Option<Duration>),
}

impl Failed {
    fn own(reason: impl ToString) -> Failed {
        Failed { what: What::Own(reason.to_string()), heard: Heard::default() }
    }

    fn refused(reason: impl Into<String>) -> Failed {
        Failed { what: What::Refused(reason.into()), heard: client::heard() }
    }
}

impl From<instant_acme::Error> for Failed {
    fn from(error: instant_acme::Error) -> Failed {
        let what = match error {
            instant_acme::Error::Api(problem) => What::Problem(problem),
            instant_acme::Error::Timeout(at) => {
                What::Late(at.map(|at| at.saturating_duration_since(Instant::now())))
            }
            other => What::Refused(other.to_string()),
        };
        Failed { what, heard: client::heard() }
    }
}

impl From<rcgen::Error> for Failed {
    fn from(error: rcgen::Error) -> Failed {
        Failed::own(error)
    }
}

async fn run(
    request: &Request<'_>,
    account: &Account,
    challenges: &Arc<Challenges>,
    keep: &dyn Fn(&Begun) -> Result<(), String>,
) -> Result<Obtained, Failed> {
    let (mut order, key) = match take_up(request, account).await? {
        Some(found) => found,
        None => begin(request, account, keep).await?,
    };
    if order.state().status == OrderStatus::Pending {
        let shown = prove(request, &mut order, challenges).await?;
        let ready = order.poll_ready(&polls(request.patience)).await.map_err(Failed::from);
        // What the CA says of the name tells more than what it says of the order.
        if !matches!(ready, Ok(OrderStatus::Ready))
            && client::heard().outage.is_none()
            && let Some(problem) = refused_proof(&mut order).await
        {
            return Err(Failed { what: What::Problem(problem), heard: Heard::default() });
        }
        if ready? != OrderStatus::Ready {
            return Err(Failed::refused("the CA has refused the order and does not say why"));
        }
        drop(shown);
    }
    if order.state().status == OrderStatus::Ready {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![subject(request.name)?];
        params.distinguished_name = rcgen::DistinguishedName::new();
        let csr = params.serialize_request(&key)?;
        order.finalize_csr(csr.der()).await?;
    }
    let chain = order.poll_certificate(&polls(request.patience)).await?;
    let pem = format!("{}\n{}", chain.trim_end(), key.serialize_pem());
    let read = Certificate::read(pem.as_bytes(), pem.as_bytes());
    let read = read.map_err(|flaw| Failed::refused(format!("what the CA has given {}", flaw.reason)))?;
    if !read.names.iter().any(|name| name == request.name) {
        return Err(Failed::refused(format!("the CA has given a certificate for {}", read.names.join(", "))));
    }
    Ok(Obtained { pem, certificate: Arc::new(read) })
}

/// The order that was begun before, if the CA still wants to hear of it.
async fn take_up(request: &Request<'_>, account: &Account) -> Result<Option<(Order, KeyPair)>, Failed> {
    let begun = request.begun.as_ref().filter(|begun| begun.directory == request.authority.directory);
    let Some((begun, key)) = begun.and_then(|begun| Some((begun, KeyPair::from_pem(&begun.key).ok()?)))
    else {
        return Ok(None);
    };
    match account.order(begun.url.clone()).await {
        Ok(mut order) => Ok((order.state().status != OrderStatus::Invalid).then_some((order, key))),
        // A CA that can say nothing now has not forgotten it.
        Err(error) if has_to_wait(&error) => Err(error.into()),
        Err(_) => Ok(None),
    }
}

/// Whether the CA could not, or did not want to, look at what it was asked.
fn has_to_wait(error: &instant_acme::Error) -> bool {
    let limited = matches!(error, instant_acme::Error::Api(problem) if is_of(problem, "rateLimited"));
    limited || client::heard().outage.is_some()
}

async fn begin(
    request: &Request<'_>,
    account: &Account,
    keep: &dyn Fn(&Begun) -> Result<(), String>,
) -> Result<(Order, KeyPair), Failed> {
    let identifiers = [match request.name.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) => Identifier::Ip(address),
        Err(_) => Identifier::Dns(request.name.to_owned()),
    }];
    let new = || {
        let new = NewOrder::new(&identifiers);
        match &request.authority.profile {
            Some(profile) => new.profile(profile),
            None => new,
        }
    };
    let order = match request.replaces.clone() {
        None => account.new_order(&new()).await,
        Some(old) => match account.new_order(&new().replaces(old)).await {
            // It has another one for that, has forgotten the old one, knows nothing of such things any more, or does not say that it has
            // understood: all of that is its own affair (RFC 9773 §5).
            Err(error) if !has_to_wait(&error) => account.new_order(&new()).await,
            other => other,
        },
    }?;
    let key = KeyPair::generate()?;
    let begun = Begun {
        directory: request.authority.directory.clone(),
        url: order.url().to_owned(),
        key: key.serialize_pem(),
    };
    keep(&begun).map_err(Failed::own)?;
    Ok((order, key))
}

/// Shows what the CA wants to see, as long as what is returned lives, and tells it to look.
async fn prove(
    request: &Request<'_>,
    order: &mut Order,
    challenges: &Arc<Challenges>,
) -> Result<Vec<Shown>, Failed> {
    let mut shown = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let offered: Vec<&ChallengeType> = authorization.challenges.iter().map(|one| &one.r#type).collect();
        let kind = choose(request, &offered).map_err(Failed::own)?;
        let Some(mut challenge) = authorization.challenge(type_of(kind)) else { continue };
        let proof = challenge.key_authorization();
        let bare = request.name.trim_start_matches("*.");
        shown.push(
            match kind {
                Challenge::Http => show::token(challenges, &challenge.token, proof.as_str()),
                Challenge::TlsAlpn => show::certificate(challenges, bare, proof.digest().as_ref()),
                Challenge::Dns => {
                    let (dns, value) = (request.acme.dns.as_ref(), proof.dns_value());
                    show::record(dns, bare, &value, request.cleanups).await
                }
            }
            .map_err(Failed::own)?,
        );
        // One that it looks at already need not be begun again.
        if challenge.status != ChallengeStatus::Processing {
            challenge.set_ready().await?;
        }
    }
    Ok(shown)
}

/// One of the challenges that both know: another one at each try, since one may be closed by something between us and the CA.
fn choose(request: &Request<'_>, offered: &[&ChallengeType]) -> Result<Challenge, String> {
    let both = request.challenges.iter().filter(|kind| offered.contains(&&type_of(**kind)));
    let both: Vec<Challenge> = both.copied().collect();
    let turn = usize::try_from(request.turn).unwrap_or(0);
    both.get(turn.checked_rem(both.len()).unwrap_or(0)).copied().ok_or_else(|| {
        let words = |all: &mut dyn Iterator<Item = String>| all.collect::<Vec<_>>().join(", ");
        let offered = words(&mut offered.iter().map(|kind| format!("{kind:?}")));
        let own = words(&mut request.challenges.iter().map(|kind| format!("{kind:?}")));
        format!("the CA wants to see one of [{offered}], and what can be shown is [{own}]")
    })
}

fn type_of(kind: Challenge) -> ChallengeType {
    match kind {
        Challenge::Http => ChallengeType::Http01,
        Challenge::TlsAlpn => ChallengeType::TlsAlpn01,
        Challenge::Dns => ChallengeType::Dns01,
    }
}

/// What the CA has against the name.
async fn refused_proof(order: &mut Order) -> Option<Problem> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.ok()?;
        let state = authorization.refresh().await.ok()?;
        if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.clone()) {
            return Some(problem);
        }
    }
    None
}

/// A CA's own words, with the kind that it gives them.
fn told(problem: &Problem) -> String {
    let kind = problem.r#type.as_deref().map(|kind| kind.rsplit(':').next().unwrap_or(kind));
    let mut text = match (kind, problem.detail.as_deref()) {
        (Some(kind), Some(detail)) => format!("{kind}: {detail}"),
        (Some(one), None) | (None, Some(one)) => one.to_owned(),
        (None, None) => "the CA does not say why".to_owned(),
    };
    for further in problem.subproblems.iter().filter_map(|one| one.detail.as_deref()) {
        text = format!("{text}; {further}");
    }
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS_MAX).collect();
    text
}

fn is_of(problem: &Problem, kind: &str) -> bool {
    problem.r#type.as_deref().is_some_and(|whole| whole.rsplit(':').next() == Some(kind))
}

fn polls(patience: Duration) -> RetryPolicy {
    RetryPolicy::default().initial_delay(Duration::from_millis(250)).backoff(1.3).timeout(patience)
}

/// How much of what a CA says is told.
const WORDS_MAX: usize = 500;
