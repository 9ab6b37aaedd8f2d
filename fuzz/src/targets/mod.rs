//! The targets: what each parser promises for any bytes.

pub mod chunks;
pub mod config_text;
pub mod frames;
pub mod hello;
pub mod hpack;
pub mod preface;
pub mod request_head;
pub mod response_head;
pub mod split;
pub mod target;

use portunus_message::Fields;

/// Fields that were read hold nothing that could split a message, and nothing of framing.
fn check_fields(fields: &Fields) {
    for (_, name, value) in fields.iter() {
        assert!(!name.is_empty() && name.iter().all(|&b| portunus_message::name::is_token_byte(b)));
        assert!(value.iter().all(|&b| portunus_message::fields::is_value_byte(b)));
        assert_eq!(portunus_message::fields::trim(value), value);
        for framing in
            ["Content-Length", "Transfer-Encoding", "Connection", "Host", "Upgrade", "Trailer", "TE"]
        {
            assert!(!name.eq_ignore_ascii_case(framing.as_bytes()));
        }
    }
}

/// The same names and values in the same order.
fn check_same(left: &Fields, right: &Fields) {
    assert!(left.iter().map(|(_, n, v)| (n, v)).eq(right.iter().map(|(_, n, v)| (n, v))));
}

/// Every field that was kept stands in the head as another parser reads it, in the same order.
fn check_against(fields: &Fields, other: &[httparse::Header<'_>]) {
    let mut other = other.iter();
    for (_, name, value) in fields.iter() {
        assert!(other.any(|field| field.name.as_bytes() == name && field.value == value));
    }
}
