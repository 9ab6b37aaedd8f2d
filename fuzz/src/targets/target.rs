//! target: hosts and paths have one normal form, and it stays as it is.

use portunus_message::Target;

/// Takes any bytes; panics when a promise is broken.
pub fn run(data: &[u8]) {
    path(data);
    host(data);
}

fn path(data: &[u8]) {
    let mut target = Target::new();
    if target.set_path(data).is_err() {
        return;
    }
    let normal = target.path_and_query().to_owned();
    let path = target.path();
    assert!(normal.bytes().all(|byte| byte > b' ' && byte < 0x7f && byte != b'\\' && byte != b'#'));
    assert!(path.starts_with('/') || path == "*");
    assert!(!path.contains("//"), "{path}");
    assert!(path.split('/').all(|segment| segment != "." && segment != ".."), "{path}");
    assert!(!["%00", "%5C", "%0D", "%0A", "%2E", "%41"].iter().any(|escape| path.contains(escape)), "{path}");
    let mut again = Target::new();
    again.set_path(normal.as_bytes()).unwrap();
    assert_eq!(again.path_and_query(), normal);
    assert_eq!(again.query(), target.query());
}

fn host(data: &[u8]) {
    let mut target = Target::new();
    if target.set_authority(data).is_err() {
        return;
    }
    let normal = target.authority().to_owned();
    assert!(!target.host().is_empty() && normal.starts_with(target.host()));
    assert!(normal.bytes().all(|byte| byte > b' ' && byte < 0x7f && !byte.is_ascii_uppercase()));
    assert!(!normal.contains(['@', '/', '?', '#', ',', '\\']));
    let mut again = Target::new();
    again.set_authority(normal.as_bytes()).unwrap();
    assert_eq!(again.authority(), normal);
}

/// Inputs to begin with.
pub const SEEDS: &[&[u8]] = &[
    b"/",
    b"*",
    b"/a/b?c=d&e",
    b"/a/../b/./c//d",
    b"/%2e%2E/%41%2f%c3%a4",
    b"/..;/x/...",
    b"Example.COM.:8080",
    b"[::0001]:443",
    b"a-b_c.d",
    b"/%252e/a;b=c/%",
    b"127.0.0.1:80",
];

/// Pieces that mean something here.
pub const WORDS: &[&[u8]] = &[
    b"/",
    b"//",
    b".",
    b"..",
    b"/../",
    b"/./",
    b"%2e",
    b"%2E%2e",
    b"%2f",
    b"%25",
    b"%00",
    b"%5c",
    b"%0d%0a",
    b"%",
    b"\\",
    b"?",
    b"#",
    b";",
    b"*",
    b":",
    b":80",
    b"@",
    b"[",
    b"]",
    b"[::1]",
    b",",
    b"\0",
    b" ",
    b"\xc3\xa4",
];
