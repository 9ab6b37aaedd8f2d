//! Identity: who a client is by its certificate, as text that no certificate can make look like another's.

use super::certificate::name;
use portunus_message::Identity;
use std::fmt::Write;
use x509_parser::asn1_rs::{Any, BmpString, Tag};
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Name};

/// Who a client is by a certificate that was verified, as DER. What it says must not be longer than anybody wants to read.
pub fn identity(certificate: &[u8]) -> Option<Identity> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok().flatten();
    let names = names.map(|names| names.value.general_names.iter().filter_map(shown));
    let names = names.into_iter().flatten().take(NAMES_MAX).collect();
    Some(Identity { subject: subject(parsed.subject()), names })
}

/// A subject in the order in which it stands there, `CN=app, O=Example`, and its values escaped as RFC 4514 §2.4 wants it: a common
/// name with a comma in it is no organisation.
fn subject(name: &X509Name<'_>) -> String {
    let mut out = String::new();
    for (at, part) in name.iter_rdn().enumerate() {
        for (within, attribute) in part.iter().enumerate() {
            out.push_str(match (at, within) {
                (0, 0) => "",
                (_, 0) => ", ",
                _ => " + ",
            });
            match oid2abbrev(attribute.attr_type(), oid_registry()) {
                Ok(kind) => out.push_str(kind),
                Err(_) => out.push_str(&attribute.attr_type().to_id_string()),
            }
            out.push('=');
            match text(attribute.attr_value()) {
                Some(value) => escape(&value, &mut out),
                None => {
                    out.push('#');
                    attribute.attr_value().data.iter().for_each(|byte| _ = write!(out, "{byte:02x}"));
                }
            }
        }
    }
    out
}

/// A value that is text.
fn text(value: &Any<'_>) -> Option<String> {
    match value.tag() {
        Tag::NumericString
        | Tag::VisibleString
        | Tag::PrintableString
        | Tag::GeneralString
        | Tag::T61String
        | Tag::Utf8String
        | Tag::Ia5String => std::str::from_utf8(value.data).ok().map(str::to_owned),
        Tag::BmpString => BmpString::try_from(value.clone()).ok().map(|text| text.string()),
        _ => None,
    }
}

/// What means something between values has a backslash before it, and what cannot be seen is written as its number.
fn escape(value: &str, out: &mut String) {
    let last = value.chars().count().saturating_sub(1);
    for (at, character) in value.chars().enumerate() {
        match character {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => out.extend(['\\', character]),
            '#' | ' ' if at == 0 => out.extend(['\\', character]),
            ' ' if at == last => out.push_str("\\ "),
            _ if character.is_control() => {
                let mut bytes = [0; 4];
                let bytes = character.encode_utf8(&mut bytes).bytes();
                bytes.for_each(|byte| _ = write!(out, "\\{byte:02X}"));
            }
            _ => out.push(character),
        }
    }
}

/// An alternative name with its kind; several of them are told with commas between.
fn shown(general: &GeneralName<'_>) -> Option<String> {
    let mut out = String::new();
    let (kind, text) = match general {
        GeneralName::DNSName(text) => ("DNS", *text),
        GeneralName::RFC822Name(text) => ("email", *text),
        GeneralName::URI(text) => ("URI", *text),
        GeneralName::IPAddress(_) => {
            return name(general).map(|text| format!("IP:{}", text.trim_matches(['[', ']'])));
        }
        _ => return None,
    };
    out.push_str(kind);
    out.push(':');
    escape(text, &mut out);
    Some(out)
}

/// How many names of a client's certificate are kept.
const NAMES_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    fn of(subject: &[(DnType, &str)], names: &[&str]) -> Identity {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.subject_alt_names =
            names.iter().map(|name| SanType::DnsName((*name).try_into().unwrap())).collect();
        identity(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der()).unwrap()
    }

    #[test]
    fn a_value_cannot_look_like_several() {
        let honest = of(&[(DnType::CommonName, "app"), (DnType::OrganizationName, "Example")], &["a.test"]);
        assert_eq!(
            (honest.subject.as_str(), honest.names.as_slice()),
            ("CN=app, O=Example", &["DNS:a.test".to_owned()][..])
        );
        let other = of(&[(DnType::CommonName, "app, O=Example")], &["u,URI:spiffe://x/app"]);
        assert_eq!(other.subject, "CN=app\\, O=Example");
        assert_eq!(other.names, ["DNS:u\\,URI:spiffe://x/app"]);
    }

    #[test]
    fn what_cannot_be_seen_is_written_out() {
        let odd = of(&[(DnType::CommonName, " #ad\0m\"i+n\u{7f}é\\ ")], &[]);
        assert_eq!(odd.subject, "CN=\\ #ad\\00m\\\"i\\+n\\7Fé\\\\\\ ");
        assert_eq!(of(&[(DnType::CommonName, "#1")], &[]).subject, "CN=\\#1");
    }
}
