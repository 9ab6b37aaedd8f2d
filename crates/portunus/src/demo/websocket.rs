//! websocket: the demo's WebSocket (RFC 6455) — says something, then sends back what it is sent.

use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Takes over a connection whose handshake has been read; `buffer` is what came after it.
pub async fn echo(
    mut stream: TcpStream,
    key: &str,
    path: &str,
    name: &str,
    mut buffer: Vec<u8>,
) -> io::Result<()> {
    let accept = portunus_wire::websocket::accept(key.as_bytes());
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        String::from_utf8_lossy(&accept)
    );
    stream.write_all(head.as_bytes()).await?;
    let said = path.split_once('?').map_or_else(|| format!("{name} is here"), |(_, said)| said.to_owned());
    let mut out = Vec::new();
    frame(FINAL | TEXT, said.as_bytes(), &mut out);
    stream.write_all(&out).await?;
    loop {
        while let Some((first, payload)) = take(&mut buffer)? {
            out.clear();
            let kind = match first & KIND {
                PING => FINAL | PONG,
                PONG => continue,
                _ => first,
            };
            frame(kind, &payload, &mut out);
            stream.write_all(&out).await?;
            if first & KIND == CLOSE {
                return stream.shutdown().await;
            }
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

/// Takes a whole frame off the front of `buffer`: its first byte, and what it carries without the mask (RFC 6455 §5.2, §5.3).
fn take(buffer: &mut Vec<u8>) -> io::Result<Option<(u8, Vec<u8>)>> {
    let [first, second, rest @ ..] = buffer.as_slice() else { return Ok(None) };
    let (length, rest, extra) = match (second & 127, rest) {
        (126, [a, b, rest @ ..]) => (usize::from(u16::from_be_bytes([*a, *b])), rest, 2),
        (126, _) => return Ok(None),
        (127, _) => return Err(io::ErrorKind::InvalidData.into()),
        (length, rest) => (usize::from(length), rest, 0),
    };
    if second & MASKED == 0 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let Some((mask, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
    let Some(masked) = rest.get(..length) else { return Ok(None) };
    let payload = masked.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    let first = *first;
    buffer.drain(..2 + extra + 4 + length);
    Ok(Some((first, payload)))
}

/// Appends a frame as a server sends it, without a mask.
fn frame(first: u8, payload: &[u8], out: &mut Vec<u8>) {
    let payload = payload.get(..usize::from(u16::MAX)).unwrap_or(payload);
    out.push(first);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ ..126), _) => out.push(length),
        (_, Ok(length)) => {
            out.push(126);
            out.extend_from_slice(&length.to_be_bytes());
        }
        (_, Err(_)) => return,
    }
    out.extend_from_slice(payload);
}

const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
const KIND: u8 = 0x0f;
const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_apart_as_rfc_6455_shows_them() {
        let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        for split in 0..hello.len() {
            let mut part = hello[..split].to_vec();
            assert_eq!(take(&mut part).unwrap(), None);
        }
        let mut whole = [&hello[..], &hello[..2]].concat();
        assert_eq!(take(&mut whole).unwrap(), Some((0x81, b"Hello".to_vec())));
        assert_eq!(whole, hello[..2]);
        assert!(take(&mut vec![0x81, 0x05, b'H', b'e', b'l', b'l', b'o']).is_err());
        assert!(take(&mut vec![0x81, 0xff]).is_err());
    }

    #[test]
    fn frames_are_put_together() {
        let mut out = Vec::new();
        frame(FINAL | TEXT, b"Hello", &mut out);
        assert_eq!(out, [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        out.clear();
        frame(FINAL | TEXT, &[0; 256], &mut out);
        assert_eq!(&out[..4], [0x81, 0x7e, 0x01, 0x00]);
    }
}
