//! `basic-auth` asks for a user name and a password.

use super::{Filter, Flow, password};
use crate::args::Reader;
use crate::context::{Answer, Context, Question};
use crate::entry::{ArgMistake, Entry, Kind, Param, Place};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use portunus_message::{Crime, Error, FieldValue, Known, Phase, Request};
use std::collections::HashMap;
use std::sync::Arc;

pub(super) const ENTRY: Entry<dyn Filter> = Entry {
    name: "basic-auth",
    manual: "Asks for a user name and a password (RFC 7617); use it under TLS only. The accounts come from a file as \
             `htpasswd` writes it, read when the configuration is loaded, or stand in the configuration. Hashes may be \
             bcrypt, argon2, SHA-crypt (`$5$`, `$6$`), `$apr1$` or `{SHA}`; plain passwords are refused.",
    example: "basic-auth user=alice:$2y$05$/OK.fbVrR/bpIqNJ5ianF.CE5elHaaO4EbggVDjb8P19RukzXSM3e realm=Staff",
    params: PARAMS,
    answers: false,
    build: |args| {
        let reader = Reader::new(PARAMS, args)?;
        let mut accounts = HashMap::new();
        if let Some(text) = reader.option("file") {
            for (line, account) in (1..).zip(text.lines().map(str::trim)) {
                if !account.is_empty() && !account.starts_with('#') {
                    let wrong = |reason| ArgMistake::option("file", format!("line {line}: {reason}"));
                    add_account(account, &mut accounts).map_err(wrong)?;
                }
            }
        }
        for account in reader.option("user").unwrap_or("").split_ascii_whitespace() {
            // It is not said what stands there: it may be a password.
            let wrong = |reason| ArgMistake::option("user", format!("`user=`: {reason}"));
            add_account(account, &mut accounts).map_err(wrong)?;
        }
        let realm = reader.option("realm").unwrap_or("Restricted");
        if realm.bytes().any(|byte| !(b' '..0x7f).contains(&byte) || matches!(byte, b'"' | b'\\')) {
            return Err(ArgMistake::option("realm", "may hold letters, digits and signs, but no quotes"));
        }
        let Some(anyone) = accounts.values().next().cloned() else {
            return Err(ArgMistake::whole("names no account").hint("add `file=` or `user=NAME:HASH`"));
        };
        let challenge = format!("Basic realm=\"{realm}\", charset=\"UTF-8\"").into_bytes();
        Ok(Box::new(BasicAuth {
            accounts,
            anyone,
            challenge,
            source: args.options.get("file").map_or("", |file| file.shown()).into(),
        }))
    },
};

const PARAMS: &[Param] = &[
    Param {
        name: "file",
        place: Place::Option,
        kind: Kind::File,
        manual: "A file with a line `NAME:HASH` for each account.",
    },
    Param {
        name: "user",
        place: Place::Option,
        kind: Kind::Text,
        manual: "An account as `NAME:HASH`; several, in quotes, are separated by spaces.",
    },
    Param {
        name: "realm",
        place: Place::Option,
        kind: Kind::Text,
        manual: "What browsers show; `Restricted` when missing.",
    },
];

fn add_account(text: &str, accounts: &mut HashMap<Box<[u8]>, Arc<str>>) -> Result<(), String> {
    let (name, hash) = text.split_once(':').ok_or("an account is written `NAME:HASH`")?;
    if name.is_empty() {
        return Err("an account needs a name".to_owned());
    }
    password::check(hash).map_err(|reason| format!("what stands for `{name}` {reason}"))?;
    match accounts.insert(name.as_bytes().into(), hash.into()) {
        None => Ok(()),
        Some(_) => Err(format!("`{name}` stands there twice")),
    }
}

struct BasicAuth {
    accounts: HashMap<Box<[u8]>, Arc<str>>,
    /// The hash that is checked for a name nobody has, so that time does not tell which names exist (attack G4).
    anyone: Arc<str>,
    challenge: Vec<u8>,
    source: Box<str>,
}

impl BasicAuth {
    fn challenge(&self, cx: &mut Context<'_>) -> Flow {
        if let Some(challenge) = FieldValue::new(&self.challenge) {
            cx.later.set(Known::WWW_AUTHENTICATE, challenge);
        }
        Flow::Fail(Error::client(Phase::Filter, Crime::Unauthorized))
    }
}

/// Name and password out of `Authorization: Basic …` (RFC 7617 §2).
fn credentials(request: &Request) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut all = request.fields.get_all(Known::AUTHORIZATION);
    let (value, None) = (all.next()?, all.next()) else { return None };
    let (scheme, token) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let mut name = STANDARD.decode(portunus_message::fields::trim(token)).ok()?;
    let colon = name.iter().position(|&byte| byte == b':')?;
    let password = name.split_off(colon + 1);
    name.pop();
    (password.len() <= password::PASSWORD_BYTES_MAX).then_some((name, password))
}

impl Filter for BasicAuth {
    fn request(&self, request: &mut Request, cx: &mut Context<'_>) -> Flow {
        let Some((name, password)) = credentials(request) else { return self.challenge(cx) };
        let hash = self.accounts.get(&*name).unwrap_or(&self.anyone);
        Flow::Ask(Question::Password { hash: Arc::clone(hash), password })
    }

    fn answered(&self, answer: Answer, request: &mut Request, cx: &mut Context<'_>) -> Flow {
        // The filter holds nothing of a request, so it looks again whose password that was.
        let known = credentials(request).is_some_and(|(name, _)| self.accounts.contains_key(&*name));
        if known && answer == Answer::Yes { Flow::Next } else { self.challenge(cx) }
    }

    fn describe(&self) -> String {
        let count = self.accounts.len();
        let accounts = if count == 1 { "account" } else { "accounts" };
        match &*self.source {
            "" => format!("basic-auth with {count} {accounts}"),
            file => format!("basic-auth file={file} with {count} {accounts}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Stage, build, joined};
    use super::*;
    use crate::plan::{Args, Text};

    const ALICE: &str = "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="; // secret
    const BOB: &str = "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="; // password

    fn filter() -> Box<dyn Filter> {
        build("basic-auth", &[&format!("user=alice:{ALICE} bob:{BOB}"), "realm=Staff only"]).unwrap()
    }

    fn ask(value: &str) -> Option<(String, Vec<u8>)> {
        let mut stage = Stage::get("/").field("Authorization", value);
        match stage.run(&*filter()) {
            Flow::Ask(Question::Password { hash, password }) => Some((hash.to_string(), password)),
            Flow::Fail(error) if error.crime == Crime::Unauthorized => {
                let challenge = joined(&stage.later, "WWW-Authenticate");
                assert_eq!(challenge, "Basic realm=\"Staff only\", charset=\"UTF-8\"");
                None
            }
            _ => panic!(),
        }
    }

    fn basic(pair: &str) -> String {
        format!("Basic {}", STANDARD.encode(pair))
    }

    #[test]
    fn it_asks_for_the_account_of_the_name() {
        assert_eq!(ask(&basic("alice:secret")), Some((ALICE.to_owned(), b"secret".to_vec())));
        assert_eq!(ask(&basic("bob:a:b")), Some((BOB.to_owned(), b"a:b".to_vec())));
        assert_eq!(ask(&basic("alice:").replace("Basic", "bASIC")), Some((ALICE.to_owned(), Vec::new())));
        let long = basic(&format!("alice:{}", "x".repeat(2000)));
        for wrong in ["", "Basic", "Basic !", "Bearer x", &basic("alice"), &long, "basi\u{e4}c x"] {
            assert_eq!(ask(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn g4_an_unknown_name_costs_a_check_and_never_passes() {
        let (hash, _) = ask(&basic("eve:secret")).unwrap();
        assert!(hash == ALICE || hash == BOB);
        for (name, answer, passes) in [
            ("eve", Answer::Yes, false),
            ("alice", Answer::Yes, true),
            ("alice", Answer::No, false),
            ("alice", Answer::Unknown, false),
        ] {
            let mut stage = Stage::get("/").field("Authorization", &basic(&format!("{name}:secret")));
            let flow = stage.with(|request, cx| filter().answered(answer, request, cx));
            assert_eq!(matches!(flow, Flow::Next), passes, "{name} {answer:?}");
            assert!(!stage.sees("Authorization").is_empty());
        }
        let mut twice =
            Stage::get("/").field("Authorization", &basic("alice:secret")).field("Authorization", "x");
        assert!(matches!(twice.run(&*filter()), Flow::Fail(_)));
    }

    #[test]
    fn accounts_come_from_a_file() {
        let build = |text: &str| {
            let mut args = Args::default();
            let file = Text { value: text.to_owned(), written: Some("users.txt".to_owned()) };
            args.options.insert("file".to_owned(), file);
            (ENTRY.build)(&args)
        };
        let filter = build(&format!("# staff\n\nalice:{ALICE}\n")).unwrap();
        assert_eq!(filter.describe(), "basic-auth file=users.txt with 1 account");
        let reason = build("alice:secret\n").err().unwrap().reason;
        assert!(reason.starts_with("line 1: what stands for `alice` is not a password hash"), "{reason}");
    }

    #[test]
    fn mistakes_are_refused() {
        let alice = format!("user=alice:{ALICE}");
        for wrong in [
            &[][..],
            &["user=alice"],
            &["user=:x"],
            &["user=alice:secret"],
            &[&alice, "realm=a\"b"],
            &["file=# nobody"],
        ] {
            assert!(build("basic-auth", wrong).is_err(), "{wrong:?}");
        }
        assert!(build("basic-auth", &[&format!("{alice} alice:{ALICE}")]).is_err());
    }
}
