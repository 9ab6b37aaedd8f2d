//! preface: the PROXY protocol, versions 1 and 2 — whom a connection is from, told by a proxy before its first byte (attack A47).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What such a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preface {
    /// The sender speaks for itself, as its health checks do.
    Local,
    /// Somebody else is behind it, of whom it says nothing that could be used.
    Unknown,
    /// Somebody else is behind it.
    Of {
        /// Where the client is.
        client: SocketAddr,
        /// Which address it reached.
        ours: SocketAddr,
    },
}

/// Why there is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPreface {
    /// Something else comes.
    Missing,
    /// It breaks the grammar.
    Broken,
    /// It is longer than it may be.
    TooLong,
}

/// Reads the header at the start of a connection, and says how many bytes it has; `None` while more of it has to come, and then
/// all that is here is part of it.
pub fn read(bytes: &[u8], bytes_max: usize) -> Result<Option<(Preface, usize)>, NoPreface> {
    if begins(bytes, SIGNATURE) {
        binary(bytes, bytes_max)
    } else if begins(bytes, TEXT) {
        text(bytes, bytes_max.min(TEXT_BYTES_MAX))
    } else {
        Err(NoPreface::Missing)
    }
}

/// Appends the header in version 1.
pub fn write_v1(preface: &Preface, out: &mut Vec<u8>) {
    match ends(preface) {
        None => out.extend_from_slice(b"PROXY UNKNOWN\r\n"),
        Some((client, ours)) => {
            let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
            let (from, to, from_port, to_port) = (client.ip(), ours.ip(), client.port(), ours.port());
            let line = format!("PROXY {family} {from} {to} {from_port} {to_port}\r\n");
            out.extend_from_slice(line.as_bytes());
        }
    }
}

/// Appends the header in version 2.
pub fn write_v2(preface: &Preface, out: &mut Vec<u8>) {
    out.extend_from_slice(SIGNATURE);
    let command = if *preface == Preface::Local { LOCAL } else { PROXY };
    out.push(VERSION << 4 | command);
    let Some((client, ours)) = ends(preface) else {
        out.extend_from_slice(&[0, 0, 0]);
        return;
    };
    match (client.ip(), ours.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            out.extend_from_slice(&[INET << 4 | STREAM, 0, INET_BYTES]);
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
        }
        (from, to) => {
            out.extend_from_slice(&[INET6 << 4 | STREAM, 0, INET6_BYTES]);
            out.extend_from_slice(&wide(from).octets());
            out.extend_from_slice(&wide(to).octets());
        }
    }
    out.extend_from_slice(&client.port().to_be_bytes());
    out.extend_from_slice(&ours.port().to_be_bytes());
}

/// Both ends, of one family, as the header has to have them.
fn ends(preface: &Preface) -> Option<(SocketAddr, SocketAddr)> {
    let Preface::Of { client, ours } = preface else { return None };
    let (from, to) = (client.ip().to_canonical(), ours.ip().to_canonical());
    let (from, to) =
        if from.is_ipv4() == to.is_ipv4() { (from, to) } else { (wide(from).into(), wide(to).into()) };
    Some((SocketAddr::new(from, client.port()), SocketAddr::new(to, ours.port())))
}

fn wide(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// Whether `bytes` begin like `start`, as far as both go.
fn begins(bytes: &[u8], start: &[u8]) -> bool {
    bytes.iter().zip(start).all(|(byte, wanted)| byte == wanted)
}

/// Version 1: one line.
fn text(bytes: &[u8], bytes_max: usize) -> Result<Option<(Preface, usize)>, NoPreface> {
    let Some(end) = bytes.iter().take(bytes_max).position(|&byte| byte == b'\n') else {
        return if bytes.len() >= bytes_max { Err(NoPreface::TooLong) } else { Ok(None) };
    };
    let line = bytes.get(TEXT.len()..end).and_then(|line| line.strip_suffix(b"\r"));
    let line = line.and_then(|line| std::str::from_utf8(line).ok()).ok_or(NoPreface::Broken)?;
    let preface = words(line).ok_or(NoPreface::Broken)?;
    Ok(Some((preface, end + 1)))
}

/// What stands between `PROXY ` and the end of the line.
fn words(line: &str) -> Option<Preface> {
    if line.contains('\r') {
        return None;
    }
    let mut words = line.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(Preface::Unknown); // what follows is not to be looked at
    }
    let (from, to, from_port, to_port) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let address = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => None,
    };
    let client = SocketAddr::new(address(from)?, port(from_port)?);
    let ours = SocketAddr::new(address(to)?, port(to_port)?);
    words.next().is_none().then_some(Preface::Of { client, ours })
}

/// A port in decimal, without a sign and without zeros in front.
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if is_plain { text.parse().ok() } else { None }
}

/// Version 2: a signature, a command, a family, a length, and as many bytes.
fn binary(bytes: &[u8], bytes_max: usize) -> Result<Option<(Preface, usize)>, NoPreface> {
    let Some(&[version, family, high, low]) = bytes.get(SIGNATURE.len()..HEAD_BYTES) else {
        return Ok(None);
    };
    let total = HEAD_BYTES + usize::from(u16::from_be_bytes([high, low]));
    let command = version & 0xf;
    if version >> 4 != VERSION || command > PROXY || family >> 4 > UNIX || family & 0xf > DATAGRAM {
        return Err(NoPreface::Broken);
    }
    if total > bytes_max {
        return Err(NoPreface::TooLong);
    }
    let Some(header) = bytes.get(..total) else { return Ok(None) };
    if command == LOCAL {
        return Ok(Some((Preface::Local, total))); // nothing else in it means anything
    }
    let block = header.get(HEAD_BYTES..).unwrap_or(&[]);
    let (preface, rest) = addresses(family, block).ok_or(NoPreface::Broken)?;
    let checksum = extensions(rest).ok_or(NoPreface::Broken)?;
    match checksum {
        Some(told) if told != crc32c(header, rest) => Err(NoPreface::Broken),
        _ => Ok(Some((preface, total))),
    }
}

/// The addresses, and what stands behind them.
fn addresses(family: u8, block: &[u8]) -> Option<(Preface, &[u8])> {
    if family & 0xf == DATAGRAM {
        return None; // this is a stream
    }
    let length = match family >> 4 {
        INET => usize::from(INET_BYTES),
        INET6 => usize::from(INET6_BYTES),
        UNIX => UNIX_BYTES,
        _ => 0,
    };
    let (own, rest) = block.split_at_checked(length)?;
    let port = |at: usize| own.get(at..at + 2).and_then(|two| two.try_into().ok()).map(u16::from_be_bytes);
    let of = |from: IpAddr, to: IpAddr, ports: usize| {
        let client = SocketAddr::new(from, port(ports)?);
        Some(Preface::Of { client, ours: SocketAddr::new(to, port(ports + 2)?) })
    };
    let preface = match (family >> 4, family & 0xf) {
        (INET, STREAM) => {
            let address = |at: usize| own.get(at..at + 4).and_then(|four| <[u8; 4]>::try_from(four).ok());
            of(address(0)?.into(), address(4)?.into(), 8)?
        }
        (INET6, STREAM) => {
            let address = |at: usize| own.get(at..at + 16).and_then(|all| <[u8; 16]>::try_from(all).ok());
            of(address(0)?.into(), address(16)?.into(), 32)?
        }
        _ => Preface::Unknown,
    };
    Some((preface, rest))
}

/// Looks at the extensions, each a type, a length and a value; they have to fill their place. Gives the checksum among them.
fn extensions(mut rest: &[u8]) -> Option<Option<u32>> {
    let mut checksum = None;
    while !rest.is_empty() {
        let (kind, value, more) = extension(rest)?;
        match kind {
            CHECKSUM if checksum.is_some() => return None,
            CHECKSUM => checksum = Some(u32::from_be_bytes(value.try_into().ok()?)),
            SSL => {
                // Who was verified, in five bytes, and then extensions of its own.
                let mut own = value.get(5..)?;
                while !own.is_empty() {
                    (_, _, own) = extension(own)?;
                }
            }
            _ => {}
        }
        rest = more;
    }
    Some(checksum)
}

fn extension(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[kind, high, low], rest) = bytes.split_first_chunk::<3>()?;
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
    Some((kind, value, rest))
}

/// CRC-32C (RFC 4960 Appendix B) of a header that ends with these extensions, with zeros in the place of the checksum.
fn crc32c(header: &[u8], extensions: &[u8]) -> u32 {
    // Invariant: the extensions are the end of the header, and a checksum among them has four bytes.
    let start = header.len() - extensions.len();
    let mut place = start..start;
    let mut rest = extensions;
    while let Some((kind, _, more)) = extension(rest) {
        if kind == CHECKSUM {
            let end = header.len() - more.len();
            place = end - 4..end;
        }
        rest = more;
    }
    let bytes = header.iter().enumerate();
    !bytes.fold(u32::MAX, |sum, (at, &byte)| {
        let byte = if place.contains(&at) { 0 } else { byte };
        (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ (POLYNOMIAL * (sum & 1)))
    })
}

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const TEXT: &[u8] = b"PROXY ";
/// The longest line of version 1, its end included.
const TEXT_BYTES_MAX: usize = 107;
/// What comes before the addresses in version 2.
const HEAD_BYTES: usize = 16;
const VERSION: u8 = 2;
// Commands.
const LOCAL: u8 = 0;
const PROXY: u8 = 1;
// Families, and how long their addresses and ports are.
const INET: u8 = 1;
const INET6: u8 = 2;
const UNIX: u8 = 3;
const INET_BYTES: u8 = 12;
const INET6_BYTES: u8 = 36;
const UNIX_BYTES: usize = 216;
// Transports.
const STREAM: u8 = 1;
const DATAGRAM: u8 = 2;
// Extensions.
const CHECKSUM: u8 = 0x03;
const SSL: u8 = 0x20;
const POLYNOMIAL: u32 = 0x82f6_3b78;

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 4 << 10;

    fn of(client: &str, ours: &str) -> Preface {
        Preface::Of { client: client.parse().unwrap(), ours: ours.parse().unwrap() }
    }

    /// What comes of these bytes, however they are cut.
    fn found(bytes: &[u8]) -> Result<Option<(Preface, usize)>, NoPreface> {
        let whole = read(bytes, MAX);
        let mut decided = None;
        for end in 0..=bytes.len() {
            let now = read(&bytes[..end], MAX);
            match &decided {
                None if now != Ok(None) => decided = Some(now),
                None => {}
                Some(before) => assert_eq!(now, *before, "at {end} of {bytes:?}"),
            }
        }
        assert_eq!(decided.unwrap_or(Ok(None)), whole);
        whole
    }

    /// Version 2 with this command, family and block.
    fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[0x20 | command, family], &length, block].concat()
    }

    const FOUR: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 9, 0xdd, 0xd5, 1, 0xbb];

    #[test]
    fn the_line_of_version_1_is_read_strictly() {
        let line = b"PROXY TCP4 192.0.2.7 198.51.100.9 56789 443\r\nGET / HTTP/1.1\r\n";
        assert_eq!(found(line), Ok(Some((of("192.0.2.7:56789", "198.51.100.9:443"), 45))));
        let line = b"PROXY TCP6 2001:db8::7 ::ffff:198.51.100.9 0 65535\r\n";
        let six = of("[2001:db8::7]:0", "[::ffff:198.51.100.9]:65535");
        assert_eq!(found(line), Ok(Some((six, line.len()))));
        for unknown in [&b"PROXY UNKNOWN\r\n"[..], b"PROXY UNKNOWN ff::1 x y z\r\n"] {
            assert_eq!(found(unknown), Ok(Some((Preface::Unknown, unknown.len()))));
        }
        for broken in [
            "PROXY TCP4 192.0.2.7 198.51.100.9 56789 443\n",
            "PROXY TCP4 192.0.2.7 198.51.100.9 56789 443 \r\n",
            "PROXY TCP4  192.0.2.7 198.51.100.9 56789 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.9 056789 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.9 65536 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.9 +1 443\r\n",
            "PROXY TCP4 192.0.2.07 198.51.100.9 1 443\r\n",
            "PROXY TCP4 ::1 ::1 1 443\r\n",
            "PROXY TCP6 192.0.2.7 198.51.100.9 1 443\r\n",
            "PROXY TCP6 fe80::1%eth0 ::1 1 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.9 1\r\n",
            "PROXY UDP4 192.0.2.7 198.51.100.9 1 2\r\n",
            "PROXY unknown\r\n",
            "PROXY UNKNOWN\r\r\n",
            "PROXY \r\n",
            "PROXY TCP4 192.0.2.7\r198.51.100.9 1 443\r\n",
        ] {
            assert_eq!(found(broken.as_bytes()), Err(NoPreface::Broken), "{broken:?}");
        }
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(107 - 16));
        assert_eq!(found(long.as_bytes()), Ok(Some((Preface::Unknown, 107))));
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(108 - 16));
        assert_eq!(found(long.as_bytes()), Err(NoPreface::TooLong));
    }

    #[test]
    fn what_is_no_header_is_known_at_its_first_wrong_byte() {
        for other in ["GET / HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n", "proxy TCP4", "\x16\x03\x01", "\r\n\r\nGET"]
        {
            assert_eq!(found(other.as_bytes()), Err(NoPreface::Missing), "{other:?}");
        }
        for start in
            [&b""[..], b"PROXY", b"PROXY TCP4 1", b"\r\n\r\n\0", SIGNATURE, &v2(1, 0x11, &FOUR)[..27]]
        {
            assert_eq!(found(start), Ok(None));
        }
    }

    #[test]
    fn version_2_is_read_strictly() {
        let four = of("192.0.2.7:56789", "198.51.100.9:443");
        assert_eq!(found(&v2(1, 0x11, &FOUR)), Ok(Some((four, 28))));
        let glued = [&v2(1, 0x11, &FOUR)[..], b"\x16\x03\x01"].concat();
        assert_eq!(found(&glued), Ok(Some((four, 28))));
        for (family, length) in [(0x00, 0), (0x01, 0), (0x00, 9), (0x31, 216), (0x30, 216)] {
            let block = [vec![0; length], vec![4, 0, 0]].concat();
            assert_eq!(
                found(&v2(1, family, &block)),
                Ok(Some((Preface::Unknown, 16 + block.len()))),
                "{family:x}"
            );
        }
        // Whatever stands in LOCAL has no meaning, but its length has.
        assert_eq!(found(&v2(0, 0x11, b"x")), Ok(Some((Preface::Local, 17))));
        let broken = |bytes: Vec<u8>| assert_eq!(found(&bytes), Err(NoPreface::Broken), "{bytes:?}");
        broken(v2(2, 0x11, &FOUR));
        broken(v2(1, 0x12, &FOUR)); // a datagram
        broken(v2(1, 0x13, &FOUR));
        broken(v2(1, 0x41, &FOUR));
        broken(v2(1, 0x11, &FOUR[..11]));
        broken(v2(1, 0x21, &[0; 35]));
        broken(v2(1, 0x31, &[0; 215]));
        let mut other_version = v2(1, 0x11, &FOUR);
        other_version[12] = 0x31;
        broken(other_version);
        assert_eq!(found(&v2(1, 0x11, &[0; MAX])), Err(NoPreface::TooLong));
        assert_eq!(found(&v2(0, 0x00, &[0; MAX])), Err(NoPreface::TooLong));
    }

    #[test]
    fn extensions_fill_their_place_exactly() {
        let with = |more: &[u8]| v2(1, 0x11, &[&FOUR[..], more].concat());
        let good: [&[u8]; 4] = [
            b"\x04\0\0",
            b"\x01\0\x02h2\x05\0\x01x",
            b"\x20\0\x05\x01\0\0\0\0",
            b"\x20\0\x09\x01\0\0\0\0\x22\0\x01a",
        ];
        for good in good {
            assert!(matches!(found(&with(good)), Ok(Some((Preface::Of { .. }, _)))), "{good:?}");
        }
        for broken in [
            &b"\x04"[..],
            b"\x04\0",
            b"\x04\0\x01",
            b"\x04\xff\xff",
            b"\x01\0\x02h2\x05\0\x02x",
            b"\x20\0\x04\x01\0\0\0",
            b"\x20\0\x08\x01\0\0\0\0\x22\0\x01",
            b"\x03\0\x03abc",
        ] {
            assert_eq!(found(&with(broken)), Err(NoPreface::Broken), "{broken:?}");
        }
    }

    #[test]
    fn a_checksum_that_is_there_has_to_be_right() {
        assert_eq!(crc32c(b"123456789", b""), 0xe306_9283);
        let mut sent = v2(1, 0x11, &[&FOUR[..], b"\x04\0\x01x\x03\0\x04\0\0\0\0\x05\0\x01y"].concat());
        assert_eq!(found(&sent), Err(NoPreface::Broken));
        let place = sent.len() - 8..sent.len() - 4;
        let sum = crc32c(&sent, &[]); // its place holds zeros
        sent[place].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(found(&sent), Ok(Some((of("192.0.2.7:56789", "198.51.100.9:443"), sent.len()))));
        let twice = [&sent[28..], &sent[28..]].concat();
        assert_eq!(found(&v2(1, 0x11, &[&FOUR[..], &twice].concat())), Err(NoPreface::Broken));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let cases = [
            (Preface::Local, Preface::Local, Preface::Unknown),
            (Preface::Unknown, Preface::Unknown, Preface::Unknown),
        ];
        let ends = [
            ("192.0.2.7:1", "198.51.100.9:443", "192.0.2.7:1", "198.51.100.9:443"),
            ("[2001:db8::7]:65535", "[::1]:0", "[2001:db8::7]:65535", "[::1]:0"),
            // A socket for both families knows IPv4 clients as IPv6 addresses.
            ("[::ffff:192.0.2.7]:1", "[::ffff:198.51.100.9]:443", "192.0.2.7:1", "198.51.100.9:443"),
            ("192.0.2.7:1", "[2001:db8::1]:443", "[::ffff:192.0.2.7]:1", "[2001:db8::1]:443"),
        ];
        let ends = ends.map(|(client, ours, c, o)| (of(client, ours), of(c, o), of(c, o)));
        for (told, as_v2, as_v1) in cases.into_iter().chain(ends) {
            let (mut one, mut two) = (Vec::new(), Vec::new());
            write_v1(&told, &mut one);
            write_v2(&told, &mut two);
            assert_eq!(found(&one), Ok(Some((as_v1, one.len()))), "{}", String::from_utf8_lossy(&one));
            assert_eq!(found(&two), Ok(Some((as_v2, two.len()))));
        }
    }
}
