//! `acme { … }`: the CAs that certificates are got from, and how it is shown to them that a name is ours.

use crate::args::Scene;
use crate::directives::Scope;
use crate::draft::{Draft, Value};
use crate::outside::Wrong;
use crate::{tls, values};
use portunus_relay::plan::{Acme, AcmeAuthority, Challenge, DnsHook, ExternalAccount, Text};
use std::time::Duration;

/// How long a record of the DNS needs until everybody sees it, unless written.
const DNS_WAIT: Duration = Duration::from_secs(30);
/// CAs that are asked one after the other.
const AUTHORITIES_MAX: usize = 8;

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
        scene.findings.error(draft.span, reason).hint("write `dns exec PROGRAM`");
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
    let key = match &key.text.written {
        Some(_) => key.text.clone(),
        // What was written out is a secret all the same.
        None => Text { written: Some("…".to_owned()), ..key.text.clone() },
    };
    Some(ExternalAccount { id: id.text.value.clone(), key })
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

/// `dns exec PROGRAM ARGUMENT … [wait=TIME]`.
fn dns(draft: &Draft, scene: &mut Scene<'_, '_>) -> Option<DnsHook> {
    let wait = draft.options.iter().find(|(key, _)| &**key == "wait").map(|(_, value)| value);
    let wait = wait.map_or(Some(DNS_WAIT), |value| scene.parse(value, values::duration))?;
    let (_, words) = draft.words.split_first()?;
    let program = words.first()?;
    if !program.text.value.starts_with('/') {
        let reason = format!("{} is not an absolute path", program.shown());
        scene.findings.error(program.span, reason).hint("write it like `/usr/local/bin/dns-hook`");
        return None;
    }
    Some(DnsHook { command: words.iter().map(|word| word.text.value.clone()).collect(), wait })
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
pub fn mistakes(acme: &Acme) -> Vec<String> {
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
    let relative = |hook: &DnsHook| !hook.command.first().is_some_and(|program| program.starts_with('/'));
    if acme.dns.as_ref().is_some_and(relative) {
        mistakes.push("the program of `dns` is not an absolute path".to_owned());
    }
    mistakes
}
