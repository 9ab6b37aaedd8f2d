//! names: which words may stand in which folder.

use super::Finding;
use crate::source::{File, find_word};

/// A rule: in these places, but not in those, none of these words stands.
struct Rule {
    places: &'static [&'static str],
    except: &'static [&'static str],
    words: &'static [&'static str],
    why: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        places: &["crates/message/", "crates/wire/"],
        except: &[],
        words: &[
            "tokio",
            "mio",
            "socket2",
            "TcpStream",
            "TcpListener",
            "UdpSocket",
            "UnixStream",
            "Instant",
            "SystemTime",
            "rand",
            "getrandom",
            "async fn",
            "async move",
            ".await",
            "std::fs",
            "std::io",
            "std::thread",
        ],
        why: "messages and grammars know no runtime, socket, clock or chance",
    },
    Rule {
        places: &["crates/relay/src/filter/", "crates/relay/src/pick/"],
        except: &[],
        words: &[
            "tokio",
            "socket2",
            "TcpStream",
            "UdpSocket",
            "Instant",
            "SystemTime",
            "async fn",
            "async move",
            ".await",
            "std::thread",
        ],
        why: "a filter asks and a policy chooses; neither waits, does I/O or reads the time",
    },
    Rule {
        places: &["crates/relay/"],
        // a unix socket is a file; accounts are read once, when the configuration is loaded
        except: &["crates/relay/src/net", "crates/relay/src/filter/basic_auth"],
        words: &[
            "std::fs",
            "tokio::fs",
            "File::open",
            "ToSocketAddrs",
            "lookup_host",
            "tracing",
            "log::info",
            "log::warn",
        ],
        why: "the relay reads no file, resolves no name and writes no log",
    },
    Rule {
        places: &["crates/"],
        except: &["crates/relay/src/net"],
        words: &["socket2"],
        why: "only `net` names the socket crate",
    },
    Rule {
        places: &["crates/"],
        except: &[
            "crates/control/src/certs/acme/client",
            "crates/control/src/certs/acme/introduction",
            "crates/relay/src/accept/tls",
            "crates/relay/src/challenges",
            "crates/relay/src/net/tls",
            "crates/relay/src/pool/tls",
            "crates/relay/src/tls/",
        ],
        words: &["rustls", "aws_lc_rs"],
        why: "the TLS library is named where hands are shaken, where records are sealed, where certificates are, and where a CA hears of us",
    },
    Rule {
        places: &["crates/"],
        except: &["crates/relay/src/link/h2", "crates/relay/src/pool/h2"],
        words: &["h2::client", "h2::Error", "h2::Reason", "h2::SendStream", "h2::RecvStream"],
        why: "the library of HTTP/2 is named where connections to upstreams are made, and where their streams are read and written",
    },
    Rule {
        places: &["crates/message/", "crates/wire/", "crates/relay/"],
        except: &["crates/wire/src/convert"],
        words: &["http::Request", "http::Response", "http::HeaderMap", "http::Uri", "http::header"],
        why: "only `convert` names the types of the `http` crate",
    },
    Rule {
        places: &["crates/"],
        except: &["crates/wire/src/h1/tests"],
        words: &["httparse"],
        why: "heads are split by our own code; the other parser is a judge in tests",
    },
    Rule {
        places: &["crates/"],
        except: &["crates/portunus/"],
        words: &["std::env", "env::var", "env::args", "clap"],
        why: "only the program reads the environment and the arguments",
    },
    Rule {
        places: &["crates/"],
        except: &["crates/control/", "crates/portunus/"],
        words: &["hyper", "hyper_util", "axum", "reqwest"],
        why: "HTTP libraries are for the control plane; the data path has its own",
    },
    Rule {
        places: &["crates/config/"],
        except: &[],
        words: &["tokio", "TcpStream", "TcpListener", "UdpSocket", "lookup_host", "ToSocketAddrs"],
        why: "a configuration is checked without the network",
    },
];

/// No rule is broken outside tests.
pub fn banned(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.is_rust() && !file.is_test()) {
        let stands_in = |places: &[&str]| places.iter().any(|place| file.path.starts_with(place));
        let mut code = None;
        for rule in RULES.iter().filter(|rule| stands_in(rule.places) && !stands_in(rule.except)) {
            let code = code.get_or_insert_with(|| file.code());
            for word in rule.words {
                let uses = find_word(code, word).filter(|&at| !is_part_of_our_path(code, at));
                findings.extend(uses.map(|at| Finding::at(file, at, format!("`{word}`: {}", rule.why))));
            }
        }
    }
    findings
}

/// `crate::decode::h2` is not the crate `h2`.
fn is_part_of_our_path(code: &str, at: usize) -> bool {
    let before = &code[..at];
    before.ends_with("::")
        && !["std::net::", "std::time::", "tokio::net::", "net::", "time::"]
            .iter()
            .any(|end| before.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> usize {
        banned(&[File::new(path, text)]).len()
    }

    #[test]
    fn words_are_found_where_they_do_not_belong() {
        assert_eq!(found("crates/wire/src/h1/parse.rs", "use tokio::io;\nasync fn f() {}\n"), 2);
        assert_eq!(found("crates/wire/src/h1/tests/properties.rs", "use httparse::Header;\n"), 0);
        assert_eq!(found("crates/wire/src/h1/parse/mod.rs", "use httparse::Header;\n"), 1);
        assert_eq!(found("crates/relay/src/filter/cors.rs", "let now = std::time::Instant::now();\n"), 1);
        assert_eq!(found("crates/relay/src/worker.rs", "let text = std::fs::read(path);\n"), 1);
        assert_eq!(found("crates/relay/src/net.rs", "use socket2::Socket;\n"), 0);
        assert_eq!(found("crates/control/src/boot.rs", "std::env::var(name)\n"), 1);
        assert_eq!(found("crates/portunus/src/main.rs", "std::env::var(name)\n"), 0);
    }

    #[test]
    fn tests_and_comments_may_name_anything() {
        assert_eq!(found("crates/wire/src/h1/tests.rs", "use tokio::io;\n"), 0);
        assert_eq!(
            found(
                "crates/wire/src/hop.rs",
                "//! hop: x\n// tokio\n#[cfg(test)]\nmod tests { use tokio::io; }\n"
            ),
            0
        );
    }
}
