//! permission: whether a name that nobody wrote down shall have a certificate; whoever is named by `ask` says it.

use super::acme::{Refusal, Web};
use super::schedule::Failing;
use portunus_relay::plan::{Plan, Signer, Wanted};
use portunus_relay::snapshot::Snapshot;

/// Whether it has to be asked. What we sign ourselves costs nobody else anything, so there it is the operator's choice.
pub fn is_needed(plan: &Plan, wanted: &Wanted) -> bool {
    wanted.by == Signer::Acme || plan.settings.acme.ask.is_some()
}

/// Whether `name` may have one.
pub async fn of(snapshot: &Snapshot, name: &str) -> Result<(), Refusal> {
    let ask = snapshot.plan().settings.acme.ask.as_deref();
    let ask = ask.ok_or_else(|| Refusal::own("nobody can be asked whether it may"))?;
    let roots = snapshot.certificates().roots.get(&None);
    let web = Web::new(roots.map(|roots| &**roots)).map_err(Refusal::own)?;
    let status = web.get(&question(ask, name)).await.map_err(Refusal::own)?;
    match status.as_u16() {
        200 => Ok(()),
        status @ 500.. => Err(Refusal::own(format!("`ask` does not know ({status})"))),
        status => Err(Refusal {
            reason: format!("`ask` does not allow it ({status})"),
            kind: Failing::Refused,
            wait: None,
        }),
    }
}

/// What is asked. Names that are asked about have letters, digits, `-` and `.` only, see `automatic::may_be_demanded`.
fn question(ask: &str, name: &str) -> String {
    let mark = if ask.contains('?') { '&' } else { '?' };
    format!("{ask}{mark}domain={name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_one_of_the_words_behind_the_url() {
        assert_eq!(question("http://a/may", "b.example"), "http://a/may?domain=b.example");
        assert_eq!(question("http://a/may?token=x", "b.example"), "http://a/may?token=x&domain=b.example");
    }
}
