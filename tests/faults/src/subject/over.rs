//! over: by what clients reach Portunus: the load speaks HTTP/1.1, and another Portunus ahead of it makes TLS or HTTP/2 of that.

use portunus_tests::Proxy;
use std::net::SocketAddr;
use std::sync::OnceLock;

/// What is spoken to the subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// HTTP/2, in the clear.
    H2c,
    /// HTTP/1.1 over TLS.
    Tls,
    /// HTTP/2 over TLS.
    H2,
}

static CHOSEN: OnceLock<Over> = OnceLock::new();

impl Over {
    /// The one that is called so.
    pub fn named(name: &str) -> Option<Over> {
        [("h2c", Over::H2c), ("tls", Over::Tls), ("h2", Over::H2)]
            .into_iter()
            .find_map(|(known, over)| (known == name).then_some(over))
    }

    /// From now on every subject is reached so.
    pub fn choose(self) {
        let _ = CHOSEN.set(self); // the first choice holds
    }

    /// What was chosen; `None`: the load reaches the subject itself.
    pub fn chosen() -> Option<Over> {
        CHOSEN.get().copied()
    }

    /// What the subject needs for that: at the top, and at its site.
    pub fn needs(self) -> [&'static str; 2] {
        match self {
            Over::H2c => ["", "listen @listen"],
            Over::Tls | Over::H2 => ["state @dir/state\n", "listen @listen tls\n    tls internal"],
        }
    }

    /// Starts the one ahead of `subject`, which hides nothing: it tries nothing again, leaves nobody out, and holds nobody back.
    pub fn ahead_of(self, subject: SocketAddr) -> Proxy {
        let (scheme, settings) = match self {
            Over::H2c => ("h2c", ""),
            Over::Tls => ("https", "protocol http1; tls insecure"),
            Over::H2 => ("https", "protocol http2; tls insecure"),
        };
        Proxy::start(&format!(
            "workers 2\nlog access off\npool subject {{ server {scheme}://{subject}; retry off; eject off; max-in-flight off; \
             {settings} }}\nsite * {{ listen @listen; proxy subject }}\n"
        ))
    }
}
