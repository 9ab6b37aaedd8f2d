//! config-text: any text is read or refused without a panic, and formatting neither changes its meaning nor ever ends.

use portunus_config::{Environment, format, load_text};

/// Takes any bytes; panics when a promise is broken.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(once) = format("fuzz", &text) {
        assert_eq!(format("fuzz", &once).as_ref(), Ok(&once), "formatting twice changes more");
    }
    // What would be read from the disk is not the parser's.
    if ["include", "file"].iter().any(|word| text.contains(word)) {
        return;
    }
    let nothing = Environment { variable: &|_| None, has_providers: true };
    let plain = load_text("fuzz", &text, &nothing);
    if let (Ok(plain), Ok(formatted)) = (&plain, format("fuzz", &text)) {
        let again = load_text("fuzz", &formatted, &nothing);
        assert_eq!(
            again.map(|loaded| loaded.plan).ok().as_ref(),
            Some(&plain.plan),
            "formatting changes the meaning"
        );
    }
}

/// Inputs to begin with.
pub const SEEDS: &[&[u8]] = &[
    b"site :8080 {\n    proxy 127.0.0.1:3000 127.0.0.1:3001\n}\n",
    b"pool web { server 10.0.0.1:80 weight=2; server 10.0.0.2:80 backup\n balance hash ${header.x-user} }\nsite * { listen 127.0.0.1:80; proxy web }",
    b"site http://a.example *.b.example { listen :80\n route /x/* method=GET header.x=~v[12] { respond 200 \"o k\" }\n redirect 308 https://a${uri} } # end",
    b"limits { header-bytes 32KiB; keep-alive 1m30s }\ntrusted-proxies 10.0.0.0/8 \\\n 192.168.0.0/16\ngrace 30s\n",
    b"site * { listen unix:/x\n respond 200 \"\"\" raw { } ; # lines\n \"\"\" }",
];

/// Pieces that mean something to this parser.
pub const WORDS: &[&[u8]] = &[
    b"site ",
    b"pool ",
    b"route ",
    b"server ",
    b"proxy ",
    b"listen ",
    b"defaults ",
    b"limits ",
    b"{",
    b"}",
    b";",
    b"\n",
    b"\\\n",
    b"\"",
    b"\"\"\"",
    b"#",
    b"${",
    b"}",
    b"$${",
    b"\\u{41}",
    b"=",
    b"weight=",
    b"method=GET,",
    b"~^/",
    b"/*",
    b"*",
    b":8080",
    b"127.0.0.1:1",
    b"5s",
    b"64KiB",
    b"100%",
    b"off",
    b"balance ",
    b"respond 200 ",
    b"request-header set A ",
    b"unix:/",
    b"[::1]:2",
];
