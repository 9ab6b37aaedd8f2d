//! framing: the rows of attack on a request's `Content-Length` and `Transfer-Encoding`.

use super::super::Framing;
use super::*;
use portunus_message::body::Source;

#[test]
fn a1_a2_length_and_coding_together() {
    for lines in [
        "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: x\r\nTransfer-Encoding: gzip\r\n",
        "content-length: 6\r\nX: y\r\nTRANSFER-ENCODING: Chunked\r\n",
    ] {
        refused(&post(lines), Crime::BadFraming);
    }
}

#[test]
fn a3_disguises_of_chunked() {
    for good in ["chunked", "Chunked", "CHUNKED", " chunked", "chunked "] {
        let (_, head) = read(&post(&format!("Transfer-Encoding: {good}\r\n"))).unwrap();
        assert_eq!(head.framing, Framing::Chunked, "{good:?}");
    }
    for bad in [
        "",
        ",",
        ",chunked",
        "chunked,",
        "chunked, chunked",
        "chunked, identity",
        "identity,, chunked",
        "chunked;a=1",
        "\"chunked\"",
        "'chunked' ",
        "\tchunked",
        "chunked\t",
        " \t chunked",
        "gzip;q=1",
        "chun ked",
        "chunked chunked",
        "gzip, chunked, chunked",
        "gzip, deflate",
        "gzip, chunked;a",
        "chunked\u{a0}",
    ] {
        let crime = if bad == "'chunked' " { Crime::UnknownCoding } else { Crime::BadFraming };
        refused(&post(&format!("Transfer-Encoding: {bad}\r\n")), crime);
    }
    for foreign in
        ["xchunked", "identity", "gzip", "gzip, chunked", "gzip , deflate,chunked", "chunkedx", "x-chunked"]
    {
        refused(&post(&format!("Transfer-Encoding: {foreign}\r\n")), Crime::UnknownCoding);
    }
    for malformed in [
        &b"Transfer-Encoding : chunked\r\n"[..],
        b"Transfer-Encoding\t: chunked\r\n",
        b"Transfer-Encoding: \x0bchunked\r\n",
        b"Transfer-Encoding: \x0cchunked\r\n",
        b"Transfer-Encoding: chunked\0\r\n",
        b"Transfer-Encoding: chun\x08ked\r\n",
        b"Transfer-Encoding:\r\n chunked\r\n",
        b"Transfer-Encoding: chunked\r\n\t, identity\r\n",
        b" Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: x\rTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: x\nTransfer-Encoding: chunked\r\n",
        b"X: y\r\n\r Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding\r\n: chunked\r\n",
        b"Transfer-Encoding\0: chunked\r\n",
    ] {
        let mut bytes = b"POST / HTTP/1.1\r\nHost: a\r\n".to_vec();
        bytes.extend_from_slice(malformed);
        bytes.extend_from_slice(b"\r\n");
        refused(&bytes, Crime::MalformedHead);
    }
    let mut bytes = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \xa0chunked\r\n\r\n".to_vec();
    refused(&bytes, Crime::BadFraming);
    bytes = post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n");
    refused(&bytes, Crime::BadFraming);
    refused(&post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"), Crime::BadFraming);
    refused(&post("Transfer_Encoding: chunked\r\n"), Crime::BadFraming);
    refused(&post("transfer_encoding: x\r\n"), Crime::BadFraming);
    refused(&post("Content_Length: 5\r\n"), Crime::BadFraming);
}

#[test]
fn a4_coding_in_http_1_0() {
    refused(b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", Crime::BadFraming);
    refused(b"POST / HTTP/1.0\r\nTransfer-Encoding: gzip\r\n\r\n", Crime::BadFraming);
}

#[test]
fn a5_no_length_means_no_body() {
    let (request, head) = read(b"POST / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /next").unwrap();
    assert_eq!((head.framing, request.body.source), (Framing::None, Source::Empty));
    assert_eq!(read(&post("")).unwrap().1.framing, Framing::None);
}

#[test]
fn a6_two_lengths() {
    for lines in [
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: \r\nContent-Length: 59\r\n",
        "Content-Length: 59\r\ncontent-length:\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: 5,\r\n",
    ] {
        refused(&post(lines), Crime::BadFraming);
    }
}

#[test]
fn a7_lengths_that_are_no_numbers() {
    for bad in [
        "",
        "+5",
        "-1",
        "-48",
        "0x10",
        "1_0",
        "5 5",
        "010",
        "00",
        "9223372036854775808",
        "18446744073709551616",
        "99999999999999999999",
        "5;",
        "5.0",
        "1e3",
        "\t5",
        "5\t",
        "\u{ff15}",
        "\"5\"",
        "٣",
    ] {
        refused(&post(&format!("Content-Length: {bad}\r\n")), Crime::BadFraming);
    }
    for (good, length) in [("0", 0), ("5", 5), (" 5 ", 5), ("9223372036854775807", i64::MAX as u64)] {
        let (request, head) = read(&post(&format!("Content-Length: {good}\r\n"))).unwrap();
        assert_eq!(head.framing, Framing::Length(length));
        assert_eq!(request.body.length, Some(length));
        assert!(!request.fields.has(Known::CONTENT_LENGTH));
    }
}

#[test]
fn a9_a_hidden_length_is_not_read_over() {
    for lines in [
        "Content-Length : 5\r\n",
        " Content-Length: 5\r\n",
        "X: y\r\n Content-Length: 5\r\n",
        "X\r\nContent-Length: 5\r\n",
    ] {
        refused(&post(lines), Crime::MalformedHead);
    }
    refused(b"GET / HTTP/1.1\r\nHost: a\r\nX: \rContent-Length: 5\r\n\r\n", Crime::MalformedHead);
}
