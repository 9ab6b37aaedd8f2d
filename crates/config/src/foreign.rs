//! foreign: what other proxies call things, and how one says that here.

/// What a directive of another proxy is called here.
pub fn directive(name: &str) -> Option<&'static str> {
    DIRECTIVES.iter().find(|(theirs, _)| *theirs == name).map(|(_, ours)| *ours)
}

/// The first variable in `text` that another proxy would fill in, as it stands there, and what it is called here.
pub fn variable(text: &str) -> Option<(String, String)> {
    for (at, _) in text.match_indices('$') {
        let rest = text.get(at + 1..).unwrap_or("");
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let name = rest.get(..end).unwrap_or("");
        let part = PARTS.iter().find_map(|(theirs, ours)| {
            let part = name.strip_prefix(theirs).filter(|part| !part.is_empty())?;
            Some(format!(
                "{ours}{}",
                if *theirs == "http_" { part.replace('_', "-") } else { part.to_owned() }
            ))
        });
        let known = VARIABLES.iter().find(|(theirs, _)| *theirs == name).map(|(_, ours)| (*ours).to_owned());
        if let Some(ours) = known.or(part) {
            return Some((format!("${name}"), format!("${{{ours}}}")));
        }
    }
    None
}

const DIRECTIVES: &[(&str, &str)] = &[
    ("backend", "it is called `pool` here: `pool NAME { server 127.0.0.1:3000 }`"),
    ("bind", "it is called `listen` here, and stands in a `site`"),
    ("frontend", "it is called `site` here: `site example.com { … }`"),
    ("location", "it is called `route` here, and stands in a `site`: `route /path/* { … }`"),
    ("proxy_pass", "it is called `proxy` here: `proxy 127.0.0.1:3000`"),
    (
        "return",
        "it is called `respond` here, or `redirect`: `respond 200 \"ok\"`, `redirect 301 https://example.com/`",
    ),
    ("reverse_proxy", "it is called `proxy` here: `proxy 127.0.0.1:3000`"),
    ("root", "no files are served here; `proxy` leads to a server that does"),
    ("server_name", "the names of a site stand behind `site`: `site example.com www.example.com { … }`"),
    ("upstream", "it is called `pool` here: `pool NAME { server 127.0.0.1:3000 }`"),
];

const VARIABLES: &[(&str, &str)] = &[
    ("args", "query"),
    ("binary_remote_addr", "client.ip"),
    ("document_uri", "path"),
    ("host", "host"),
    ("http_host", "host"),
    ("query_string", "query"),
    ("remote_addr", "client.ip"),
    ("remote_port", "client.port"),
    ("request_id", "request.id"),
    ("request_method", "method"),
    ("request_uri", "uri"),
    ("scheme", "scheme"),
    ("server_name", "host"),
    ("server_port", "server.port"),
    ("ssl_protocol", "tls.version"),
    ("ssl_server_name", "tls.sni"),
    ("status", "response.status"),
    ("upstream_addr", "upstream.address"),
    ("uri", "path"),
];

/// Those whose names go on with the name of a part.
const PARTS: &[(&str, &str)] = &[("arg_", "query."), ("cookie_", "cookie."), ("http_", "header.")];

#[cfg(test)]
mod tests {
    use super::*;
    use portunus_relay::template::VARIABLES as OURS;

    #[test]
    fn variables_of_others_are_found_and_ours_are_known() {
        for (text, theirs, ours) in [
            ("https://$host$request_uri", "$host", "${host}"),
            ("x $$remote_addr", "$remote_addr", "${client.ip}"),
            ("${host} $http_x_user", "$http_x_user", "${header.x-user}"),
            ("$arg_id", "$arg_id", "${query.id}"),
        ] {
            assert_eq!(variable(text), Some((theirs.to_owned(), ours.to_owned())), "{text}");
        }
        for text in ["$", "$1", "$hostname", "${host}", "$${host}", "US$ 5", "$http_"] {
            assert_eq!(variable(text), None, "{text}");
        }
        for (_, ours) in VARIABLES {
            assert!(OURS.iter().any(|known| known.name == *ours), "{ours}");
        }
        for (_, ours) in PARTS {
            assert!(OURS.iter().any(|known| known.name == format!("{ours}NAME")), "{ours}");
        }
    }
}
