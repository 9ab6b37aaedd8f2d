//! foreign: what other proxies call things, and how one says that here.

/// What a directive of another proxy is called here.
pub fn directive(name: &str) -> Option<&'static str> {
    let comment = ["//", "/*", "--"].iter().any(|begin| name.starts_with(begin));
    let known = DIRECTIVES.iter().find(|(theirs, _)| *theirs == name).map(|(_, ours)| *ours);
    known.or(comment.then_some("a comment begins with `#`"))
}

/// What to write for a block that is called as a host or an address is.
pub fn site(name: &str) -> Option<String> {
    let is_host = name.contains(['.', ':']) || name == "localhost";
    is_host.then(|| format!("a site is written `site {name} {{ … }}`"))
}

/// The first variable in `text` that another proxy would fill in, as it stands there, and what to write here.
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
        let ours = known.or(part).map(|ours| format!("write `${{{ours}}}` to have it filled in"));
        let needless = NEEDLESS.iter().find(|(theirs, _)| *theirs == name).map(|(_, why)| (*why).to_owned());
        if let Some(hint) = ours.or(needless) {
            return Some((format!("${name}"), hint));
        }
    }
    None
}

const DIRECTIVES: &[(&str, &str)] = &[
    (
        "access_log",
        "it is called `log access` here, and stands at the top: `log access json /var/log/portunus/access.log`",
    ),
    ("acl", "the conditions stand behind `route` here: `route /api/* method=GET { … }`"),
    ("add_header", "it is called `response-header add` here: `response-header add X-Name value`"),
    ("allow", "it is called `access allow` here: `access allow 10.0.0.0/8`"),
    ("auth_basic", "it is called `basic-auth` here"),
    ("auth_basic_user_file", "it is called `basic-auth file=…` here"),
    ("backend", "it is called `pool` here: `pool NAME { server 127.0.0.1:3000 }`"),
    ("basicauth", "it is called `basic-auth` here"),
    ("bind", "it is called `listen` here, and stands in a `site`"),
    ("client_max_body_size", "it is called `body-limit` here: `body-limit 10MiB`"),
    ("deny", "it is called `access deny` here: `access deny 10.0.0.0/8`"),
    ("entrypoints", "an address is a `listen` in a `site` here"),
    (
        "error_log",
        "what the program says of itself goes to standard error; `log level warn` says how much of it",
    ),
    ("events", "there is nothing to set for it here"),
    ("frontend", "it is called `site` here: `site example.com { … }`"),
    ("handle", "it is called `route` here: `route /path/* { … }`"),
    (
        "handle_path",
        "it is called `route` here, with `rewrite` in it: `route /path/* { rewrite strip=/path; proxy … }`",
    ),
    ("header", "it is called `request-header` or `response-header` here: `response-header set X-Name value`"),
    ("http", "there is no block around sites and pools here: they stand at the top"),
    ("http-request", "there are `request-header`, `access`, `redirect` and `rewrite` for it"),
    ("http-response", "it is called `response-header` here"),
    ("import", "it is called `include` here: `include sites/*.conf`"),
    ("ip_hash", "it is called `balance client-ip` here, in a `pool`"),
    ("keepalive", "it is called `keep-alive` here, in a `pool`"),
    ("keepalive_timeout", "it is a limit here: `limits { keep-alive 75s }`"),
    ("lb_policy", "it is called `balance` here, in a `pool`: `balance least-requests`"),
    ("least_conn", "it is called `balance least-requests` here, in a `pool`"),
    ("leastconn", "it is called `balance least-requests` here, in a `pool`"),
    ("loadbalancer", "it is called `balance` here, in a `pool`"),
    ("location", "it is called `route` here, and stands in a `site`: `route /path/* { … }`"),
    ("matcher", "the conditions stand behind `route` here: `route /api/* method=GET { … }`"),
    ("mode", "HTTP is what is spoken here; there is no mode"),
    ("option", "there is no `option` here; a check of servers is `health /path` in a `pool`"),
    ("path", "it stands behind `route` here: `route /path/* { … }`"),
    ("proxy_connect_timeout", "it is a limit here: `limits { connect 5s }`"),
    ("proxy_http_version", "servers are spoken with in HTTP/1.1 here, or as `protocol` in a `pool` says"),
    ("proxy_pass", "it is called `proxy` here: `proxy 127.0.0.1:3000`"),
    ("proxy_read_timeout", "it is called `timeout` here: `timeout first-byte=60s`"),
    ("proxy_redirect", "answers are passed on as they are; `response-header set Location …` changes one"),
    ("proxy_send_timeout", "it is a limit here: `limits { upstream-idle 60s }`"),
    (
        "proxy_set_header",
        "it is called `request-header set` here; `X-Forwarded-For` and its kind are set anyway",
    ),
    ("redir", "it is called `redirect` here: `redirect 301 https://example.com/`"),
    (
        "return",
        "it is called `respond` here, or `redirect`: `respond 200 \"ok\"`, `redirect 301 https://example.com/`",
    ),
    ("reverse_proxy", "it is called `proxy` here: `proxy 127.0.0.1:3000`"),
    ("root", "no files are served here; `proxy` leads to a server that does"),
    ("roundrobin", "it is called `balance round-robin` here, in a `pool`, and is what is done anyway"),
    ("routers", "it is called `route` here, and stands in a `site`"),
    ("server_name", "the names of a site stand behind `site`: `site example.com www.example.com { … }`"),
    ("services", "it is called `pool` here: `pool NAME { server 127.0.0.1:3000 }`"),
    ("source", "it is called `balance client-ip` here, in a `pool`"),
    ("ssl_certificate", "it is called `tls` here, and takes both files: `tls cert.pem key.pem`"),
    ("ssl_certificate_key", "it is the second file of `tls`: `tls cert.pem key.pem`"),
    ("ssl_ciphers", "it is an option of `tls` here: `tls … suites=…`"),
    ("ssl_protocols", "it is an option of `tls` here: `tls … from=1.2`"),
    ("stats", "`admin` has `/status` and `/metrics`: `admin 127.0.0.1:9090 token=${env.ADMIN_TOKEN}`"),
    ("upstream", "it is called `pool` here: `pool NAME { server 127.0.0.1:3000 }`"),
    ("use_backend", "it is called `proxy` here, in a `route`: `route /api/* { proxy NAME }`"),
    ("worker_processes", "it is called `workers` here"),
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
    ("ssl_client_s_dn", "tls.client.subject"),
    ("ssl_protocol", "tls.version"),
    ("ssl_server_name", "tls.sni"),
    ("status", "response.status"),
    ("upstream_addr", "upstream.address"),
    ("uri", "path"),
];

/// Those that nobody needs here, and why.
const NEEDLESS: &[(&str, &str)] = &[
    ("connection_upgrade", "leave this line out: WebSockets need none"),
    ("proxy_add_x_forwarded_for", "leave this line out: `X-Forwarded-For` is continued anyway"),
    ("proxy_host", "leave this line out: servers are told the host that the client asked for"),
    ("proxy_x_forwarded_proto", "leave this line out: `X-Forwarded-Proto` is set anyway"),
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
            let hint = format!("write `{ours}` to have it filled in");
            assert_eq!(variable(text), Some((theirs.to_owned(), hint)), "{text}");
        }
        let (theirs, hint) = variable("$proxy_add_x_forwarded_for").unwrap();
        assert!(theirs == "$proxy_add_x_forwarded_for" && hint.contains("leave this line out"));
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
