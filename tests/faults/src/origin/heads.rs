//! heads: sixty heads that no answer may have; whoever passes one on, or takes its body for one, is wrong (row A40).

/// The head with this number, modulo how many there are.
pub fn broken(number: usize) -> Vec<u8> {
    let texts = TEXTS.len();
    let number = number % COUNT;
    if number < texts {
        return TEXTS[number].replace("OK\r\n", "OK\r\nX-Origin: a\r\n").into_bytes();
    }
    match number - texts {
        0 => {
            // endless
            let mut head = b"HTTP/1.1 200 OK\r\nX-Origin: a\r\n".to_vec();
            for field in 0..40_000 {
                head.extend_from_slice(format!("X-{field}: {field}\r\n").as_bytes());
            }
            head
        }
        1 => [b"HTTP/1.1 200 OK\r\nX-Long: ".as_slice(), &vec![b'x'; 1 << 20], b"\r\n\r\n"].concat(),
        2 => [b"HTTP/1.1 200 OK\r\n".as_slice(), &vec![b'n'; 70_000], b": v\r\n\r\n"].concat(),
        3 => b"\0\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x80".to_vec(),
        4 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        // a head that ends after so many bytes, and the connection with it
        cut => {
            let head = b"HTTP/1.1 200 OK\r\nX-Origin: a\r\nContent-Length: 2\r\n\r\n";
            head[..(cut - 4) * 3].to_vec()
        }
    }
}

/// How many there are.
pub const COUNT: usize = TEXTS.len() + 5 + 14;

const TEXTS: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: 2 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked, x\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nX: a\x01b\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nX: a\x7fb\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nno colon here\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\n: no name\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nX Y: space\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nX\t: tab\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\n X: before the first\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nX(Y): comment\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 99 Low\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 1000 High\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 2x0 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 -20 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1\t200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/9.9 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTPS/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "ICY 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "SSH-2.0-OpenSSH_9.2\r\n",
    "220 mail ready\r\n250 ok\r\n\r\n",
    "<html>no head at all</html>\r\n\r\n",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_sixty_and_none_is_a_good_one() {
        assert_eq!(COUNT, 60);
        let mut all: Vec<Vec<u8>> = (0..COUNT).map(broken).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), COUNT);
    }
}
