//! What a variable's text goes through before it is written, so that it stays a value where it stands.

use portunus_message::fields::is_value_byte;
use std::io::Write;

/// What happens to the text of a variable before it is written; literals are the operator's own and stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// Nothing.
    Raw,
    /// For a header field: bytes that a field may not hold are left out (attack A42).
    Value,
    /// For a path or a target: what has a meaning of its own there is percent-encoded (attacks A42, F14).
    Path,
    /// For text/html: `&`, `<`, `>` and quotes become references.
    Html,
    /// For the inside of a JSON string.
    Json,
}

/// What is known of a text that goes into a URI.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The operator wrote it.
    Literal,
    /// It is part of a URI: its `/`, `?` and `%` mean what they say.
    Uri,
    /// It is a value from a URI: its `%41` are escapes, but its `/` and `:` must not become syntax.
    Escaped,
    /// It is from anywhere.
    Foreign,
}

/// Escapes what stands in `out` from `start` on.
pub(super) fn escape_from(out: &mut Vec<u8>, start: usize, escape: Escape, origin: Origin) {
    match escape {
        Escape::Raw => {}
        Escape::Value => drop_from(out, start),
        Escape::Path => encode_from(out, start, origin),
        Escape::Html if origin != Origin::Literal => replace_from(out, start, html),
        Escape::Json if origin != Origin::Literal => replace_from(out, start, json),
        Escape::Html | Escape::Json => {}
    }
}

/// Leaves out, from `start` on, what a field's value may not hold.
fn drop_from(out: &mut Vec<u8>, start: usize) {
    let mut at = 0;
    out.retain(|&byte| {
        at += 1;
        at <= start || is_value_byte(byte)
    });
}

/// Percent-encodes, from `start` on, what may not stand in a URI.
fn encode_from(out: &mut Vec<u8>, start: usize, origin: Origin) {
    let plain = |bytes: &[u8], at: usize| {
        let byte = bytes.get(at).copied().unwrap_or(0);
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => true,
            b'%' if origin != Origin::Foreign => {
                bytes.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            }
            b'\\' | b'#' => false,
            _ => {
                matches!(origin, Origin::Literal | Origin::Uri) && byte > b' ' && byte < 0x7f && byte != b'%'
            }
        }
    };
    let text = out.get(start..).unwrap_or(&[]);
    if (0..text.len()).all(|at| plain(text, at)) {
        return;
    }
    let text = out.split_off(start);
    for (at, &byte) in text.iter().enumerate() {
        if plain(&text, at) {
            out.push(byte);
        } else {
            let _ = write!(out, "%{byte:02X}"); // writing to a Vec cannot fail
        }
    }
}

/// Replaces, from `start` on, each byte for which `replacement` has one.
fn replace_from(out: &mut Vec<u8>, start: usize, replacement: fn(u8, &mut Vec<u8>) -> bool) {
    let text = out.split_off(start);
    for byte in text {
        if !replacement(byte, out) {
            out.push(byte);
        }
    }
}

fn html(byte: u8, out: &mut Vec<u8>) -> bool {
    let reference: &[u8] = match byte {
        b'&' => b"&amp;",
        b'<' => b"&lt;",
        b'>' => b"&gt;",
        b'"' => b"&quot;",
        b'\'' => b"&#39;",
        _ => return false,
    };
    out.extend_from_slice(reference);
    true
}

fn json(byte: u8, out: &mut Vec<u8>) -> bool {
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        0..=0x1f | b'<' | b'>' | b'&' | 0x7f => {
            let _ = write!(out, "\\u{byte:04x}"); // writing to a Vec cannot fail
        }
        _ => return false,
    }
    true
}
