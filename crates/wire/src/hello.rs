//! hello: the name and the protocols that a ClientHello asks for, read without ending TLS (RFC 8446 §4.1.2, RFC 6066 §3).

/// The most that may come before a ClientHello is whole; those with post-quantum keys have about 2 KiB.
pub const HELLO_BYTES_MAX: usize = 16 << 10;

/// What a client says of itself before anything is encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// The host it wants, as it wrote it; none when it names none.
    pub name: Option<String>,
    /// The protocols that it would speak, the preferred first (RFC 7301).
    pub protocols: Vec<Vec<u8>>,
    /// The suite that it prefers to all others (RFC 8446 §4.1.2), but for numbers that mean nothing (RFC 8701).
    pub suite: Option<u16>,
    /// Whether it shows a ticket of TLS 1.3 (RFC 8446 §4.2.11).
    pub resumes: bool,
}

/// Why there will be no ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoHello {
    /// It is no TLS; what comes may be a request in plain HTTP.
    NotTls,
    /// It breaks the grammar.
    Broken,
    /// It is longer than [`HELLO_BYTES_MAX`].
    TooLong,
}

/// Reads the ClientHello at the start of a connection; `None` while more of it has to come.
pub fn read(bytes: &[u8]) -> Result<Option<Hello>, NoHello> {
    match bytes.first() {
        None => return Ok(None),
        Some(&HANDSHAKE) => {}
        Some(_) => return Err(NoHello::NotTls),
    }
    let message = match message(bytes)? {
        Some(message) => message,
        None if bytes.len() >= HELLO_BYTES_MAX => return Err(NoHello::TooLong),
        None => return Ok(None),
    };
    parse(&mut Reader(&message)).map(Some).ok_or(NoHello::Broken)
}

/// The body of the first handshake message, put together from its records (RFC 8446 §5.1).
fn message(bytes: &[u8]) -> Result<Option<Vec<u8>>, NoHello> {
    let mut whole = Vec::new();
    let mut rest = Reader(bytes);
    let mut length = None;
    while let Some(kind) = rest.byte() {
        if kind != HANDSHAKE {
            return Err(NoHello::Broken); // nothing may stand between the parts of a message
        }
        match rest.byte() {
            Some(3) => {}
            Some(_) => return Err(NoHello::NotTls),
            None => return Ok(None),
        }
        let Some(_minor) = rest.byte() else { return Ok(None) };
        let Some(size) = rest.number(2) else { return Ok(None) };
        if size == 0 || size > RECORD_BYTES_MAX {
            return Err(NoHello::Broken);
        }
        let part = rest.take(size.min(rest.0.len())).unwrap_or(&[]);
        whole.extend_from_slice(part);
        if whole.first().is_some_and(|&kind| kind != CLIENT_HELLO) {
            return Err(NoHello::Broken);
        }
        let mut head = Reader(whole.get(1..).unwrap_or(&[]));
        length = length.or_else(|| head.number(3));
        match length {
            Some(length) if length > HELLO_BYTES_MAX => return Err(NoHello::TooLong),
            Some(length) if whole.len() >= 4 + length => {
                return Ok(whole.get(4..4 + length).map(<[u8]>::to_vec));
            }
            _ => {}
        }
    }
    Ok(None)
}

/// The parts of a ClientHello in their order; `None` when one does not fit.
fn parse(hello: &mut Reader<'_>) -> Option<Hello> {
    let mut found = Hello::default();
    hello.take(2 + 32)?; // version, random
    hello.list(1)?; // session
    let mut suites = hello.list(2)?;
    while let (None, Some(suite)) = (found.suite, suites.number(2)) {
        found.suite = u16::try_from(suite).ok().filter(|suite| !is_grease(*suite));
    }
    hello.list(1)?; // compression
    if hello.0.is_empty() {
        return Some(found);
    }
    let mut extensions = hello.list(2)?;
    if !hello.0.is_empty() {
        return None;
    }
    let (mut named, mut protocols) = (false, false);
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let mut body = extensions.list(2)?;
        // An extension may be there only once (RFC 8446 §4.2).
        match kind {
            SERVER_NAME if std::mem::replace(&mut named, true) => return None,
            SERVER_NAME => found.name = name(&mut body)?,
            ALPN if std::mem::replace(&mut protocols, true) => return None,
            ALPN => {
                let mut list = body.list(2)?;
                while !list.0.is_empty() {
                    found.protocols.push(list.list(1)?.0.to_vec());
                }
            }
            PRE_SHARED_KEY => found.resumes = true,
            _ => {}
        }
    }
    Some(found)
}

/// Whether a number is there only so that nobody forgets to ignore what he does not know (RFC 8701 §2).
fn is_grease(number: u16) -> bool {
    let [high, low] = number.to_be_bytes();
    high == low && low & 0xf == 0xa
}

/// The one host name of the extension; an address is no name (RFC 6066 §3).
fn name(body: &mut Reader<'_>) -> Option<Option<String>> {
    let mut list = body.list(2)?;
    let mut found = None;
    while !list.0.is_empty() {
        let kind = list.byte()?;
        let name = list.list(2)?.0;
        if kind == HOST_NAME && found.replace(name).is_some() {
            return None; // two names of one kind
        }
    }
    let Some(name) = found else { return Some(None) };
    let text = std::str::from_utf8(name).ok().filter(|text| !text.is_empty() && text.is_ascii())?;
    Some((text.parse::<std::net::IpAddr>().is_err()).then(|| text.to_owned()))
}

/// Takes bytes from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number(&mut self, bytes: usize) -> Option<usize> {
        Some(self.take(bytes)?.iter().fold(0, |number, &byte| number << 8 | usize::from(byte)))
    }

    /// A list with its length in front, in so many bytes.
    fn list(&mut self, bytes: usize) -> Option<Reader<'a>> {
        let length = self.number(bytes)?;
        self.take(length).map(Reader)
    }
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: usize = 0;
const HOST_NAME: u8 = 0;
const ALPN: usize = 16;
const PRE_SHARED_KEY: usize = 41;
/// RFC 8446 §5.1.
const RECORD_BYTES_MAX: usize = 1 << 14;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A ClientHello with these extensions, in records of at most `step` bytes.
    fn hello(extensions: &[u8], step: usize) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        let mut message = vec![1, 0];
        message.extend((body.len() as u16).to_be_bytes());
        message.extend(body);
        let record = |part: &[u8]| [&[22, 3, 1][..], &(part.len() as u16).to_be_bytes(), part].concat();
        message.chunks(step).flat_map(record).collect()
    }

    fn named(name: &[u8]) -> Vec<u8> {
        let mut list = vec![0];
        list.extend((name.len() as u16).to_be_bytes());
        list.extend(name);
        let mut extension = vec![0, 0];
        extension.extend((list.len() as u16 + 2).to_be_bytes());
        extension.extend((list.len() as u16).to_be_bytes());
        extension.extend(list);
        extension
    }

    #[test]
    fn name_and_protocols_are_found_however_the_records_are_cut() {
        let alpn = [0, 16, 0, 14, 0, 12, 2, b'h', b'2', 8, b'h', b't', b't', b'p', b'/', b'1', b'.', b'1'];
        for step in [1, 2, 3, 7, 50, 1000] {
            let bytes = hello(&[&named(b"a.example")[..], &alpn].concat(), step);
            let found = read(&bytes).unwrap().unwrap();
            assert_eq!(found.name.as_deref(), Some("a.example"));
            assert_eq!(found.protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
            for end in 0..bytes.len() {
                assert_eq!(read(&bytes[..end]), Ok(None), "{step} {end}");
            }
        }
    }

    #[test]
    fn the_preferred_suite_is_the_first_that_means_something() {
        let plain = hello(&[], 999);
        assert_eq!(read(&plain).unwrap().unwrap().suite, Some(0x1301));
        let mut more = plain.clone();
        more.splice(44..46, [0, 4, 0x7a, 0x7a]); // two suites now, and so two bytes more at all
        for at in [4, 8] {
            more[at] += 2;
        }
        assert_eq!(read(&more).unwrap().unwrap().suite, Some(0x1301));
        more[45] = 2; // the second is none any more
        assert_eq!(read(&more).map(|hello| hello.map(|hello| hello.suite)), Err(NoHello::Broken));
    }

    #[test]
    fn a_ticket_is_seen() {
        assert!(!read(&hello(&named(b"a"), 99)).unwrap().unwrap().resumes);
        assert!(read(&hello(&[named(b"a"), vec![0, 41, 0, 0]].concat(), 99)).unwrap().unwrap().resumes);
    }

    #[test]
    fn an_address_is_no_name_and_none_is_none() {
        assert_eq!(read(&hello(&named(b"127.0.0.1"), 99)).unwrap().unwrap().name, None);
        assert_eq!(read(&hello(&[], 99)).unwrap().unwrap().name, None);
    }

    #[test]
    fn what_is_no_hello_is_told_apart() {
        assert_eq!(read(b"GET / HTTP/1.1\r\n"), Err(NoHello::NotTls));
        assert_eq!(read(&[22, 2, 0, 0, 1, 1]), Err(NoHello::NotTls));
        assert_eq!(read(&[22, 3, 1, 0, 0, 1]), Err(NoHello::Broken));
        assert_eq!(read(&[22, 3, 1, 0, 1, 2]), Err(NoHello::Broken));
        assert_eq!(read(&[22, 3, 1, 0, 4, 1, 1, 0, 0]), Err(NoHello::TooLong));
        let twice = [named(b"a"), named(b"b")].concat();
        assert_eq!(read(&hello(&twice, 99)), Err(NoHello::Broken));
        let cut = named(b"a.example");
        assert_eq!(read(&hello(&cut[..cut.len() - 1], 99)), Err(NoHello::Broken));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_and_more_of_them_change_no_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() { *first = 22; }
            if let Ok(Some(found)) = read(&bytes) {
                let more = [&bytes[..], b"more"].concat();
                prop_assert_eq!(read(&more), Ok(Some(found)));
            }
        }
    }
}
