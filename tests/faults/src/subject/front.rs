//! front: what a proxy is to do, in the words of each: one site for any host in front of one pool, and what a test adds.

use super::Over;
use std::fmt::{Display, Write};

/// A configuration for each of the proxies. What stands here is what they are given where a test adds nothing.
#[derive(Clone, Default)]
pub struct Front {
    servers: Vec<String>,
    one_worker: bool,
    haproxy_grace: Option<u64>,
    haproxy_names: Option<String>,
    portunus: [String; 3],
    nginx: [String; 3],
    haproxy: [String; 3],
}

impl Front {
    /// In front of these servers.
    pub fn of<S: Display>(servers: impl IntoIterator<Item = S>) -> Front {
        Front { servers: servers.into_iter().map(|server| server.to_string()).collect(), ..Front::default() }
    }

    /// Further settings for Portunus: at the top, in the pool, in the site.
    pub fn with_portunus(mut self, top: &str, pool: &str, site: &str) -> Front {
        for (all, more) in self.portunus.iter_mut().zip([top, pool, site]) {
            all.push_str(more);
            all.push('\n');
        }
        self
    }

    /// Further settings for nginx: in `http`, in `server`.
    pub fn with_nginx(self, http: &str, server: &str) -> Front {
        self.with_all_nginx("", http, server)
    }

    /// Further settings for nginx: at the top, in `http`, in `server`.
    pub fn with_all_nginx(mut self, top: &str, http: &str, server: &str) -> Front {
        for (all, more) in self.nginx.iter_mut().zip([top, http, server]) {
            all.push_str(more);
            all.push('\n');
        }
        self
    }

    /// Further settings for HAProxy: in the front end, in the back end, after them.
    pub fn with_haproxy(mut self, frontend: &str, backend: &str, after: &str) -> Front {
        for (all, more) in self.haproxy.iter_mut().zip([frontend, backend, after]) {
            all.push_str(more);
            all.push('\n');
        }
        self
    }

    /// HAProxy ends after so many seconds, whatever is under way; 30 where nothing else is said.
    pub fn with_haproxy_grace(self, seconds: u64) -> Front {
        Front { haproxy_grace: Some(seconds), ..self }
    }

    /// HAProxy asks this server for the addresses of its servers, of which each may have up to four; it keeps the last ones.
    pub fn with_haproxy_names(self, names: &impl Display) -> Front {
        let text = format!(
            "resolvers names\n  nameserver one {names}\n  hold valid 1s\n  hold timeout 1h\n  hold refused 1h\n  \
             hold nx 1h\n  hold other 1h\n  hold obsolete 1s\n  resolve_retries 3\n  timeout resolve 1s\n  timeout retry 1s\n"
        );
        Front { haproxy_names: Some(text), ..self }
    }

    /// With one worker instead of two.
    pub fn with_one_worker(self) -> Front {
        Front { one_worker: true, ..self }
    }

    /// Portunus: its defaults.
    pub fn portunus(&self) -> String {
        let [top, pool, site] = &self.portunus;
        let [state, listen] = Over::chosen().map_or(["", "listen @listen"], Over::needs);
        let servers = lines(&self.servers, |_, server| format!("    server {server}"));
        let workers = self.workers();
        let log = if top.contains("log access ") { "" } else { "log access off\n" };
        format!(
            "workers {workers}\n{log}{state}{top}pool p {{\n{servers}{pool}}}\nsite * {{\n    {listen}\n{site}    proxy p\n}}\n"
        )
    }

    /// nginx: upstream connections are kept, as its manual advises; connecting takes 2 s at most; the rest is default, so
    /// that a request is passed to the next server on errors and timeouts, a POST only when nothing of it was sent.
    pub fn nginx(&self) -> String {
        let [top, http, server] = &self.nginx;
        let workers = self.workers();
        let descriptors =
            if top.contains("worker_rlimit_nofile ") { "" } else { "worker_rlimit_nofile 19000; " };
        let log = if http.contains("access_log ") { "" } else { "access_log off;" };
        let servers = lines(&self.servers, |_, server| format!("  server {server};"));
        format!(
            "worker_processes {workers}; daemon off; user root; pid @dir/nginx.pid; error_log @dir/nginx.error error;\n\
             {top}{descriptors}events {{ worker_connections 8192; }}\n\
             http {{ {log} client_max_body_size 0; keepalive_requests 1000000;\n\
             client_body_temp_path @dir/nginx-body; proxy_temp_path @dir/nginx-temp;\n\
             proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_connect_timeout 2s;\n\
             upstream p {{\n{servers}  keepalive 64;\n}}\n{http}\
             server {{ listen @listen backlog=4096;\n  location / {{ proxy_pass http://p; }}\n{server}}}\n}}\n"
        )
    }

    /// HAProxy: a connect check of each server every second; requests go to another server when one fails, a POST only
    /// when nothing of it was sent, as its manual advises.
    pub fn haproxy(&self) -> String {
        let [frontend, backend, after] = &self.haproxy;
        let grace = self.haproxy_grace.unwrap_or(30);
        let workers = self.workers();
        let names = self.haproxy_names.as_deref().unwrap_or("");
        let servers = lines(&self.servers, |at, server| match names {
            "" => format!("  server s{at} {server}"),
            _ => format!("  server-template s{at}- 4 {server} resolvers names init-addr none"),
        });
        format!(
            "global\n  nbthread {workers}\n  hard-stop-after {grace}s\n\
             defaults\n  mode http\n  timeout client 60s\n  timeout server 60s\n  timeout connect 2s\n  \
             timeout http-keep-alive 60s\n  option redispatch 1\n  retry-on all-retryable-errors\n\
             {names}frontend f\n  bind @listen\n{frontend}  default_backend p\n\
             backend p\n  http-request disable-l7-retry if METH_POST\n  default-server check inter 1s\n{backend}{servers}{after}"
        )
    }

    fn workers(&self) -> u32 {
        if self.one_worker { 1 } else { 2 }
    }
}

fn lines(servers: &[String], line: impl Fn(usize, &str) -> String) -> String {
    servers.iter().enumerate().fold(String::new(), |mut all, (at, server)| {
        let _ = writeln!(all, "{}", line(at, server));
        all
    })
}
