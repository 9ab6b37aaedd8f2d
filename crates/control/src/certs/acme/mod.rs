//! acme: one certificate from one CA (RFC 8555): account, order, proof, certificate; what can be taken up again after a restart is kept.

mod account;
mod client;
mod show;

pub use account::Accounts;
pub use client::{Web, identifier};

use super::schedule::Failing;
use crate::automatic::subject;
use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Identifier, NewOrder, Order,
    OrderStatus, Problem, RetryPolicy,
};
use portunus_relay::challenges::Challenges;
use portunus_relay::plan::{Acme, AcmeAuthority, Challenge, DnsHook};
use portunus_relay::tls::Certificate;
use rcgen::{CertificateParams, KeyPair};
use serde::{Deserialize, Serialize};
use show::Shown;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

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
    let mut known = accounts.of(request.authority, request.acme).await?;
    let mut outcome = run(&request, &known.account, challenges, keep).await;
    // A CA that was set up anew knows nobody.
    if matches!(&outcome, Err(Failed::Problem(problem)) if is_of(problem, "accountDoesNotExist")) {
        accounts.forget(request.authority);
        known = accounts.of(request.authority, request.acme).await?;
        outcome = run(&request, &known.account, challenges, keep).await;
    }
    outcome.map_err(|failed| {
        let heard = known.web.heard();
        let told = failed.to_string();
        match heard.outage {
            Some(reason) => {
                accounts.drop_connection(request.authority);
                Refusal { reason, kind: Failing::Outage, wait: heard.retry_after }
            }
            None => Refusal { reason: told, kind: Failing::Refused, wait: heard.retry_after },
        }
    })
}

/// Why an order has come to no good end.
enum Failed {
    /// The CA has said why.
    Problem(Problem),
    /// Somebody else.
    Other(String),
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failed::Problem(problem) => f.write_str(&told(problem)),
            Failed::Other(reason) => f.write_str(reason),
        }
    }
}

impl From<instant_acme::Error> for Failed {
    fn from(error: instant_acme::Error) -> Failed {
        match error {
            instant_acme::Error::Api(problem) => Failed::Problem(problem),
            instant_acme::Error::Timeout(_) => {
                Failed::Other("the CA has not come to a decision in time".into())
            }
            other => Failed::Other(other.to_string()),
        }
    }
}

impl From<rcgen::Error> for Failed {
    fn from(error: rcgen::Error) -> Failed {
        Failed::Other(error.to_string())
    }
}

async fn run(
    request: &Request<'_>,
    account: &Account,
    challenges: &Arc<Challenges>,
    keep: &dyn Fn(&Begun) -> Result<(), String>,
) -> Result<Obtained, Failed> {
    let (mut order, key) = match take_up(request, account).await {
        Some(found) => found,
        None => begin(request, account, keep).await?,
    };
    if order.state().status == OrderStatus::Pending {
        let shown = prove(request, &mut order, challenges).await?;
        let ready = order.poll_ready(&patience()).await;
        // What the CA says of the name tells more than what it says of the order.
        if !matches!(ready, Ok(OrderStatus::Ready))
            && let Some(problem) = refused_proof(&mut order).await
        {
            return Err(Failed::Problem(problem));
        }
        if ready? != OrderStatus::Ready {
            return Err(Failed::Other("the CA has refused the order and does not say why".into()));
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
    let chain = order.poll_certificate(&patience()).await?;
    let pem = format!("{}\n{}", chain.trim_end(), key.serialize_pem());
    let read = Certificate::read(pem.as_bytes(), pem.as_bytes());
    let read = read.map_err(|flaw| Failed::Other(format!("what the CA has given {}", flaw.reason)))?;
    if !read.names.iter().any(|name| name == request.name) {
        return Err(Failed::Other(format!("the CA has given a certificate for {}", read.names.join(", "))));
    }
    Ok(Obtained { pem, certificate: Arc::new(read) })
}

/// The order that was begun before, if the CA still wants to hear of it.
async fn take_up(request: &Request<'_>, account: &Account) -> Option<(Order, KeyPair)> {
    let begun = request.begun.as_ref().filter(|begun| begun.directory == request.authority.directory)?;
    let mut order = account.order(begun.url.clone()).await.ok()?;
    let key = KeyPair::from_pem(&begun.key).ok()?;
    (order.state().status != OrderStatus::Invalid).then_some((order, key))
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
            // It has another one for that, or has forgotten the old one; either is its own affair (RFC 9773 §5).
            Err(instant_acme::Error::Api(problem)) if !is_of(&problem, "rateLimited") => {
                account.new_order(&new()).await
            }
            other => other,
        },
    }?;
    let key = KeyPair::generate()?;
    let begun = Begun {
        directory: request.authority.directory.clone(),
        url: order.url().to_owned(),
        key: key.serialize_pem(),
    };
    keep(&begun).map_err(Failed::Other)?;
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
        let kind = choose(request, &offered).map_err(Failed::Other)?;
        let Some(mut challenge) = authorization.challenge(type_of(kind)) else { continue };
        let proof = challenge.key_authorization();
        let bare = request.name.trim_start_matches("*.");
        shown.push(
            match kind {
                Challenge::Http => show::token(challenges, &challenge.token, proof.as_str()),
                Challenge::TlsAlpn => show::certificate(challenges, bare, proof.digest().as_ref()),
                Challenge::Dns => show::record(request.acme.dns.as_ref(), bare, &proof.dns_value()).await,
            }
            .map_err(Failed::Other)?,
        );
        challenge.set_ready().await?;
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

fn patience() -> RetryPolicy {
    RetryPolicy::default().initial_delay(Duration::from_millis(250)).backoff(1.3).timeout(ORDER_TIME)
}

/// How long a CA has for each of its decisions.
const ORDER_TIME: Duration = Duration::from_secs(90);
/// How much of what a CA says is told.
const WORDS_MAX: usize = 500;
