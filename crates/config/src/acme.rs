//! `acme { … }`: the CAs that certificates are got from, and how it is shown to them that a name is ours.

use crate::args::Scene;
use crate::directives::Scope;
use crate::draft::{Draft, Value};
use crate::outside::Wrong;
use crate::providers::{Provider, SECRETS};
use crate::{tls, values};
use portunus_relay::plan::{
    Acme, AcmeAuthority, Challenge, Dns, DnsHook, DnsProvider, ExternalAccount, Text,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a record of the DNS needs until everybody sees it, unless written.
const DNS_WAIT: Duration = Duration::from_secs(30);
/// CAs that are asked one after the other.
const AUTHORITIES_MAX: usize = 8;

/// What is said when a provider is named and none can be spoken with, and what can be done.
const NO_PROVIDERS: &str = "this program was built without providers of DNS";
const WITHOUT_PROVIDERS: &str = "build it with `--features acme-dns`, or write `dns exec PROGRAM`";

/// What is printed in the place of a secret that was written out.
const HIDDEN: &str = "…";

/// What stands in `acme { … }`.
pub fn read(block: &[Draft], scene: &mut Scene<'_, '_>) -> Acme {
    let mut acme = Acme { authorities: Vec::new(), ..Acme::default() };
    for (draft, form) in scene.known(block, Scope::Acme) {
        match form.name {
            "email" => {
                for word in &draft.words {
                    acme.email.extend(scene.parse(word, email));
                }
            }
            "ca" => match authority(draft, scene) {
                Some(new) if acme.authorities.iter().any(|known| known.directory == new.directory) => {
                    scene.findings.error(draft.span, format!("the CA `{}` is there twice", new.directory));
                }
                Some(_) if acme.authorities.len() == AUTHORITIES_MAX => {
                    let reason = format!("more than {AUTHORITIES_MAX} CAs would not be asked");
                    scene.findings.error(draft.span, reason);
                }
                new => acme.authorities.extend(new),
            },
            "challenge" => {
                for word in &draft.words {
                    let kind = scene.parse(word, challenge);
                    acme.challenges.extend(kind.filter(|kind| !acme.challenges.contains(kind)));
                }
            }
            "dns" => acme.dns = dns(draft, scene),
            "ask" => {
                acme.ask = draft.words.first().and_then(|word| scene.parse(word, |text| url(text, true)));
            }
            _ => {}
        }
    }
    if acme.authorities.is_empty() {
        acme.authorities = Acme::default().authorities;
    }
    if let Some(draft) = block.iter().find(|draft| &*draft.name == "challenge")
        && acme.challenges.contains(&Challenge::Dns)
        && acme.dns.is_none()
    {
        let reason = "`dns-01` needs somebody who puts records into the DNS";
        scene.findings.error(draft.span, reason).hint("write `dns PROVIDER token=…` or `dns exec PROGRAM`");
    }
    acme
}

/// `ca URL [eab-id=… eab-key=…] [trust=FILE] [profile=NAME]`.
fn authority(draft: &Draft, scene: &mut Scene<'_, '_>) -> Option<AcmeAuthority> {
    let option = |name: &str| draft.options.iter().find(|(key, _)| &**key == name).map(|(_, value)| value);
    let directory = scene.parse(draft.words.first()?, |text| url(text, false))?;
    let external_account = match (option("eab-id"), option("eab-key")) {
        (Some(id), Some(key)) => external_account(id, key, scene),
        (None, None) => None,
        (Some(one), None) | (None, Some(one)) => {
            scene.findings.error(one.span, "`eab-id=` and `eab-key=` belong together");
            None
        }
    };
    let trust = option("trust").and_then(|file| {
        let name = scene.outside.name(file.span.file(), &file.text.value);
        match tls::roots(Some(name.clone()), scene.outside) {
            Ok(()) => Some(name),
            Err(wrong) => {
                scene.findings.error(file.span, wrong.reason).maybe_hint(wrong.hint);
                None
            }
        }
    });
    let profile = option("profile").map(|name| name.text.value.clone());
    Some(AcmeAuthority { directory, external_account, trust, profile })
}

fn external_account(id: &Value, key: &Value, scene: &mut Scene<'_, '_>) -> Option<ExternalAccount> {
    scene.parse(key, eab_key)?;
    Some(ExternalAccount { id: id.text.value.clone(), key: secret(key) })
}

/// Whether a key is what a CA gives: base64url, with padding or without (RFC 4648 §5).
pub fn eab_key(text: &str) -> Result<(), Wrong> {
    let text = text.trim_end_matches('=');
    let is_base64url = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    match is_base64url && text.len() >= 16 && text.len() % 4 != 1 {
        true => Ok(()),
        false => Err(Wrong::new("is not the key of an account: that is base64url, as the CA shows it")),
    }
}

/// `dns exec PROGRAM ARGUMENT … [wait=TIME]`, or `dns PROVIDER KEY=… [zone=ZONE] [wait=TIME]`.
fn dns(draft: &Draft, scene: &mut Scene<'_, '_>) -> Option<Dns> {
    let wait = draft.options.iter().find(|(key, _)| &**key == "wait").map(|(_, value)| value);
    let wait = wait.map_or(Some(DNS_WAIT), |value| scene.parse(value, values::duration))?;
    let (how, words) = draft.words.split_first()?;
    match how.text.value.as_str() {
        "exec" => hook(draft, words, wait, scene).map(Dns::Exec),
        _ => provider(draft, how, words, wait, scene).map(Dns::Provider),
    }
}

fn hook(draft: &Draft, words: &[Value], wait: Duration, scene: &mut Scene<'_, '_>) -> Option<DnsHook> {
    if let Some((key, value)) = draft.options.iter().find(|(key, _)| &**key != "wait") {
        let reason = format!("`{key}=` is for providers of DNS, and `exec` calls a program");
        scene.findings.error(value.span, reason).hint("give it to the program as an argument");
        return None;
    }
    let Some(program) = words.first() else {
        scene.findings.error(draft.span, "`dns exec` needs a program").hint("write `dns exec PROGRAM`");
        return None;
    };
    if !program.text.value.starts_with('/') {
        let reason = format!("{} is not an absolute path", program.shown());
        scene.findings.error(program.span, reason).hint("write it like `/usr/local/bin/dns-hook`");
        return None;
    }
    Some(DnsHook { command: words.iter().map(|word| word.text.value.clone()).collect(), wait })
}

fn provider(
    draft: &Draft,
    name: &Value,
    words: &[Value],
    wait: Duration,
    scene: &mut Scene<'_, '_>,
) -> Option<DnsProvider> {
    let provider = scene.parse(name, Provider::named)?;
    if !scene.outside.environment.has_providers {
        scene.findings.error(name.span, NO_PROVIDERS).hint(WITHOUT_PROVIDERS);
        return None;
    }
    if let Some(word) = words.first() {
        let reason = format!("`{}` takes no further words", provider.name);
        scene.findings.error(word.span, reason).hint("what it has to be told is written `KEY=…`");
        return None;
    }
    let (mut settings, mut zone) = (BTreeMap::new(), None);
    for (key, value) in draft.options.iter().filter(|(key, _)| &**key != "wait") {
        match &**key {
            "zone" => zone = scene.parse(value, values::host),
            key => {
                if let Some(wrong) = provider.refuses(key) {
                    scene.wrong(value, wrong);
                    return None;
                }
                let is_secret = SECRETS.contains(&key);
                settings.insert(key.to_owned(), if is_secret { secret(value) } else { value.text.clone() });
            }
        }
    }
    if let Some(wrong) = provider.lacks(|key| settings.contains_key(key)) {
        scene.findings.error(draft.span, wrong.reason).maybe_hint(wrong.hint);
        return None;
    }
    Some(DnsProvider { name: provider.name.to_owned(), zone, settings, wait })
}

fn secret(value: &Value) -> Text {
    let mut text = value.text.clone();
    hide(&mut text);
    text
}

/// From now on the text is not shown, even where it was written out.
pub fn hide(text: &mut Text) {
    text.written.get_or_insert_with(|| HIDDEN.to_owned());
}

fn email(text: &str) -> Result<String, Wrong> {
    let parts = text.split_once('@').filter(|(user, host)| !user.is_empty() && host.contains('.'));
    let is_plain =
        text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b',' | b'?' | b'<' | b'>'));
    match parts.filter(|_| is_plain) {
        Some(_) => Ok(text.to_owned()),
        None => Err(Wrong::new("is not an e-mail address")),
    }
}

fn challenge(text: &str) -> Result<Challenge, Wrong> {
    match text {
        "http-01" => Ok(Challenge::Http),
        "tls-alpn-01" => Ok(Challenge::TlsAlpn),
        "dns-01" => Ok(Challenge::Dns),
        _ => Err(values::one_of(text, &["http-01", "tls-alpn-01", "dns-01"])
            .err()
            .unwrap_or(Wrong::new("is not a challenge"))),
    }
}

/// An address on the web, with `https://`, or with `http://` where that is good enough.
pub fn url(text: &str, plain: bool) -> Result<String, Wrong> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    match scheme {
        "https" => {}
        "http" if plain => {}
        "http" => return Err(Wrong::new("is not secured: a CA is spoken with over `https://` only")),
        _ => return Err(Wrong::new("is not a URL").hint(format!("write `https://{rest}`"))),
    }
    let authority = rest.split(['/', '?']).next().unwrap_or("");
    let (host, port) = values::split_port(authority)?;
    values::host(host)?;
    port.map(|port| values::port(port, 1)).transpose()?;
    match rest.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        true => Ok(text.to_owned()),
        false => Err(Wrong::new("is not a URL")),
    }
}

/// What has to be true of them, whoever wrote them.
pub fn mistakes(acme: &Acme, has_providers: bool) -> Vec<String> {
    let mut mistakes = Vec::new();
    let mut check = |text: &str, result: Result<(), Wrong>| {
        mistakes.extend(result.err().map(|wrong| format!("`{text}` {}", wrong.reason)));
    };
    acme.email.iter().for_each(|text| check(text, email(text).map(drop)));
    for authority in &acme.authorities {
        check(&authority.directory, url(&authority.directory, false).map(drop));
        if let Some(account) = &authority.external_account {
            check(&account.id, eab_key(&account.key.value));
        }
    }
    acme.ask.iter().for_each(|text| check(text, url(text, true).map(drop)));
    if acme.authorities.is_empty() {
        mistakes.push("`acme` names no CA".to_owned());
    }
    if acme.challenges.contains(&Challenge::Dns) && acme.dns.is_none() {
        mistakes.push("`dns-01` needs somebody who puts records into the DNS: `dns`".to_owned());
    }
    match &acme.dns {
        Some(Dns::Exec(hook)) if !hook.command.first().is_some_and(|program| program.starts_with('/')) => {
            mistakes.push("the program of `dns` is not an absolute path".to_owned());
        }
        Some(Dns::Provider(_)) if !has_providers => mistakes.push(NO_PROVIDERS.to_owned()),
        Some(Dns::Provider(provider)) => mistakes.extend(mistake_of_provider(provider)),
        _ => {}
    }
    mistakes
}

fn mistake_of_provider(plan: &DnsProvider) -> Option<String> {
    let provider = match Provider::named(&plan.name) {
        Ok(provider) => provider,
        Err(wrong) => return Some(format!("`{}` {}", plan.name, wrong.reason)),
    };
    if let Some((key, _)) = plan.settings.iter().find(|(_, text)| text.value == HIDDEN) {
        return Some(format!(
            "`{key}` of `{}` is a secret that was not printed: write `${{env.…}}`",
            plan.name
        ));
    }
    let refused = plan.settings.keys().find_map(|key| provider.refuses(key));
    let wrong = refused.or_else(|| provider.lacks(|key| plan.settings.contains_key(key)));
    let zone = plan.zone.as_ref().and_then(|zone| values::host(zone).err().map(|wrong| (zone, wrong)));
    wrong.map(|wrong| wrong.reason).or_else(|| zone.map(|(zone, wrong)| format!("`{zone}` {}", wrong.reason)))
}
