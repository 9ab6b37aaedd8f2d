//! remote: speaks to the running program over its admin API — `reload`, `upgrade`, `status`, `stop`.

use crate::args::{At, AtHost};
use crate::boot::{environment, find_config};
use crate::exit::Exit;
use crate::output::say;
use portunus_control::source::Source;
use portunus_relay::plan::{Admin, Text};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `reload`: fine when the new configuration is in force; 3 with the mistakes when it is refused, 4 when it could not listen.
pub fn reload(config: Option<&Path>, at: &At) -> Result<(), Exit> {
    let answer = call("POST", "/reload", "", config, at)?;
    match answer.status {
        200 => say(&answer.body),
        422 => Err(Exit::config(answer.body)),
        409 => Err(Exit::listen(answer.body)),
        _ => Err(answer.unexpected()),
    }
}

/// `status`: what the program does, for people or as JSON.
pub fn status(config: Option<&Path>, at: &At, as_json: bool) -> Result<(), Exit> {
    let answer = call("GET", "/status", "", config, at)?;
    if answer.status != 200 {
        return Err(answer.unexpected());
    }
    if as_json {
        return say(&answer.body);
    }
    let status = serde_json::from_str(&answer.body)
        .map_err(|error| Exit::failed(format_args!("the answer is not JSON: {error}")))?;
    say(&readable(&status))
}

/// Where the running program keeps what it needs, if it runs and tells.
pub fn state_directory(config: Option<&Path>) -> Option<PathBuf> {
    let at = At { admin: None, token_file: None };
    let answer = call("GET", "/status", "", config, &at).ok().filter(|answer| answer.status == 200)?;
    let status: Value = serde_json::from_str(&answer.body).ok()?;
    status["state_directory"].as_str().map(PathBuf::from)
}

/// `upgrade`: fine when the program on disk serves; 1 with the reason when the running one goes on.
pub fn upgrade(config: Option<&Path>, at: &At) -> Result<(), Exit> {
    let answer = call("POST", "/upgrade", "", config, at)?;
    match answer.status {
        200 => say(&answer.body),
        409 => Err(Exit::failed(answer.body)),
        _ => Err(answer.unexpected()),
    }
}

/// `stop`: the program finishes what it has, and ends.
pub fn stop(config: Option<&Path>, at: &At) -> Result<(), Exit> {
    let answer = call("POST", "/stop", "", config, at)?;
    if answer.status == 202 { say(&answer.body) } else { Err(answer.unexpected()) }
}

/// `drain`, `undrain`.
pub fn adjust(config: Option<&Path>, host: &AtHost, what: &Value) -> Result<(), Exit> {
    change("PATCH", config, host, what)
}

/// `weight`: a number, or `default` for the one written.
pub fn weight(config: Option<&Path>, host: &AtHost, weight: &str) -> Result<(), Exit> {
    let weight = match weight {
        "default" => Value::Null,
        _ => match weight.parse::<u16>() {
            Ok(number) => number.into(),
            Err(_) => {
                return Err(Exit::usage(format_args!(
                    "{weight} is neither a number from 0 to 65535 nor `default`"
                )));
            }
        },
    };
    change("PATCH", config, host, &json!({ "weight": weight }))
}

/// `add`.
pub fn add(config: Option<&Path>, host: &AtHost, what: &Value) -> Result<(), Exit> {
    change("PUT", config, host, what)
}

/// `remove`.
pub fn remove(config: Option<&Path>, host: &AtHost) -> Result<(), Exit> {
    change("DELETE", config, host, &Value::Null)
}

/// Changes one host; the program says what holds now, or why not.
fn change(method: &str, config: Option<&Path>, host: &AtHost, what: &Value) -> Result<(), Exit> {
    let mut path = format!("/pools/{}/hosts/{}", encoded(&host.pool), encoded(&host.host));
    let mut body = String::new();
    match what.as_object() {
        Some(what) => {
            let mut what = what.clone();
            what.insert("persist".into(), host.persist.into());
            body = Value::Object(what).to_string();
        }
        None if host.persist => path.push_str("?persist=true"),
        None => {}
    }
    let answer = call(method, &path, &body, config, &host.at)?;
    match answer.status {
        200 => say(&answer.body),
        400 => Err(Exit::usage(answer.body.trim_end())),
        _ => Err(Exit::failed(answer.body.trim_end())),
    }
}

/// Percent-encoded, as a name has to stand in a path.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => {
                out.push(char::from(byte))
            }
            _ => _ = write!(out, "%{byte:02X}"),
        }
    }
    out
}

struct Answer {
    status: u16,
    body: String,
}

impl Answer {
    fn unexpected(self) -> Exit {
        Exit::failed(format_args!(
            "the running program has answered {}: {}",
            self.status,
            self.body.trim_end()
        ))
    }
}

fn call(method: &str, path: &str, body: &str, config: Option<&Path>, at: &At) -> Result<Answer, Exit> {
    let (admin, doubt) = place(config, at)?;
    let failed = |error: io::Error| {
        let hint = match (error.kind(), &doubt) {
            (_, Some(why)) => format!("; it may be elsewhere, for the configuration cannot be read: {why}"),
            (io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused, None) if at.admin.is_some() => {
                "; does it run?".into()
            }
            (io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused, None) => {
                "; does it run? If it was started with another `admin`, `--admin` says where it is".into()
            }
            _ => String::new(),
        };
        Exit::failed(format_args!("cannot speak to {}: {error}{hint}", shown(&admin)))
    };
    let (bytes, token, host) = match &admin {
        Admin::Off => return Err(Exit::failed("the admin API is off in this configuration")),
        Admin::Unix(path) => {
            (UnixStream::connect(path).map_err(failed)?.into(), None, "localhost".to_owned())
        }
        Admin::Tcp { address, token } => {
            let stream = TcpStream::connect_timeout(address, CONNECT_TIME).map_err(failed)?;
            (Stream::Tcp(stream), Some(token.value.as_str()), address.to_string())
        }
    };
    let length = body.len();
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n"
    );
    if let Some(token) = token {
        let _ = write!(request, "Authorization: Bearer {token}\r\n");
    }
    request.push_str("\r\n");
    request.push_str(body);
    let text = bytes.exchange(request.as_bytes()).map_err(failed)?;
    parse(&text).ok_or_else(|| Exit::failed(format_args!("{} does not speak HTTP", shown(&admin))))
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Stream {
        Stream::Unix(stream)
    }
}

impl Stream {
    /// Sends `request` and reads all that comes, which ends with the connection.
    fn exchange(self, request: &[u8]) -> io::Result<String> {
        let mut answer = Vec::new();
        match self {
            Stream::Tcp(mut stream) => {
                stream.set_read_timeout(Some(ANSWER_TIME))?;
                stream.write_all(request)?;
                stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
            }
            Stream::Unix(mut stream) => {
                stream.set_read_timeout(Some(ANSWER_TIME))?;
                stream.write_all(request)?;
                stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
            }
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some(Answer { status, body: body.to_owned() })
}

/// The admin address: as typed, or as configured, or the usual one; and why it may be another one.
fn place(config: Option<&Path>, at: &At) -> Result<(Admin, Option<String>), Exit> {
    let token = match &at.token_file {
        None => None,
        Some(path) => {
            let text = std::fs::read_to_string(path);
            let text =
                text.map_err(|error| Exit::failed(format_args!("cannot read {}: {error}", path.display())))?;
            Some(Text::plain(text.trim()))
        }
    };
    let (mut place, doubt) = match &at.admin {
        Some(written) => (typed(written)?, None),
        None => configured(config)?,
    };
    if let (Admin::Tcp { token: known, .. }, Some(token)) = (&mut place, token) {
        *known = token;
    }
    Ok((place, doubt))
}

fn typed(written: &str) -> Result<Admin, Exit> {
    if let Some(path) = written.strip_prefix("unix:") {
        return Ok(Admin::Unix(PathBuf::from(path)));
    }
    let address = written.parse();
    let address =
        address.map_err(|_| Exit::usage(format_args!("{written} is neither unix:/path nor ip:port")))?;
    Ok(Admin::Tcp { address, token: Text::plain("") })
}

/// What the configuration says. A broken one must not keep anybody from the program that still runs: then the line that says `admin`
/// is enough, and without it the usual socket, in doubt. Where that line cannot be read either, nobody knows where the program is.
fn configured(config: Option<&Path>) -> Result<(Admin, Option<String>), Exit> {
    let path = match find_config(config) {
        Ok(path) => path,
        Err(_) if config.is_none() => return Ok((Admin::default(), None)),
        Err(exit) => return Err(exit),
    };
    let mistakes = match Source::File(path.clone()).load(&environment) {
        Ok(loaded) => return Ok((loaded.plan.settings.admin.clone(), None)),
        Err(mistakes) => mistakes,
    };
    let text = portunus_config::open(&path)
        .and_then(std::io::read_to_string)
        .map_err(|error| Exit::config(format_args!("cannot read {}: {error}", path.display())))?;
    let is_admin = |line: &str| line.trim_start().starts_with("admin ");
    let Some(before) = text.lines().position(is_admin) else {
        return Ok((Admin::default(), mistakes.0.first().map(|mistake| mistake.one_line())));
    };
    // At the place where it stands, for whoever is told what is wrong with it.
    let line = text.lines().nth(before).unwrap_or_default();
    let text = format!("{}{line}\n{ANY_SITE}\n", "\n".repeat(before));
    let alone = Source::Text { name: path.display().to_string(), text };
    Ok((alone.load(&environment)?.plan.settings.admin.clone(), None))
}

/// Without a site nothing is a configuration.
const ANY_SITE: &str = "site * { listen 127.0.0.1:0; respond 404 }";

fn shown(admin: &Admin) -> String {
    match admin {
        Admin::Off => "nobody".into(),
        Admin::Unix(path) => path.display().to_string(),
        Admin::Tcp { address, .. } => address.to_string(),
    }
}

/// The status page as people read it.
fn readable(status: &Value) -> String {
    let mut out = String::new();
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let _ = writeln!(
        out,
        "portunus {} is {}, process {}, since {}",
        word(&status["version"]),
        word(&status["state"]),
        status["pid"],
        word(&status["started"]),
    );
    let config = &status["config"];
    let _ = writeln!(out, "configuration {} ({})", word(&config["source"]), word(&config["hash"]));
    for warning in list(&config["warnings"]) {
        let _ = writeln!(out, "  {}", word(&warning));
    }
    let latest = &status["reloads"]["latest"];
    if !latest.is_null() {
        let _ = writeln!(out, "latest reload {} at {}", word(&latest["result"]), word(&latest["time"]));
        for mistake in list(&latest["mistakes"]) {
            let _ = writeln!(out, "  {}", word(&mistake));
        }
    }
    let listen: Vec<_> = list(&status["listen"]).iter().map(word).collect();
    let listen = if listen.is_empty() { "nowhere".into() } else { format!("at {}", listen.join(", ")) };
    let _ = writeln!(out, "listening {listen}, workers {}", status["workers"]);
    let connections = &status["connections"];
    let _ = writeln!(
        out,
        "connections {} open, {} accepted, {} refused; requests {} under way",
        connections["open"], connections["accepted"], connections["refused"], status["requests_active"],
    );
    for name in list(&status["names"]).iter().filter(|name| !name["failing"].is_null()) {
        let (kept, why) = (list(&name["addresses"]).len(), word(&name["failing"]));
        let _ = writeln!(out, "{} cannot be resolved, {kept} addresses are kept: {why}", word(&name["name"]));
    }
    for one in list(&status["certificates"]) {
        let (name, until) = (word(&one["name"]), one["until"].as_str());
        let _ = match (until, one["error"].as_str()) {
            (Some(until), None) => {
                let passed = one["passed_over"].as_str().map(|why| format!("; passed over: {why}"));
                let passed = passed.unwrap_or_default();
                writeln!(out, "certificate for {name} from {} until {until}{passed}", word(&one["from"]))
            }
            (Some(until), Some(why)) => {
                writeln!(out, "certificate for {name} until {until}; not renewed: {why}")
            }
            (None, Some(why)) => {
                writeln!(out, "no certificate for {name}, next try at {}: {why}", word(&one["next"]))
            }
            (None, None) => writeln!(out, "no certificate for {name} yet"),
        };
    }
    for pool in list(&status["pools"]) {
        let retries = counted(&pool["retries"], "retry", "retries");
        let _ = writeln!(out, "pool {}, {retries}", word(&pool["name"]));
        for host in list(&pool["hosts"]) {
            let reason = match host["reason"].as_str() {
                Some(reason) => format!(" ({reason})"),
                None => String::new(),
            };
            let _ = writeln!(
                out,
                "  {} {}{reason}, weight {}, {}, {}, {} under way",
                word(&host["name"]),
                word(&host["state"]),
                host["weight"],
                counted(&host["requests"], "request", "requests"),
                counted(&host["failures"], "failure", "failures"),
                host["in_flight"],
            );
        }
    }
    for line in list(&status["by_hand"]) {
        let _ = writeln!(out, "{}", word(&line));
    }
    for canary in list(&status["canaries"]) {
        let reason = canary["reason"].as_str().map(|reason| format!(": {reason}")).unwrap_or_default();
        let _ = writeln!(
            out,
            "canary {} of {}, {} of {}, {}{reason}, {}, {}",
            word(&canary["pool"]),
            word(&canary["route"]),
            word(&canary["share"]),
            word(&canary["to"]),
            word(&canary["state"]),
            counted(&canary["new"]["requests"], "request", "requests"),
            counted(&canary["new"]["errors"], "error", "errors"),
        );
    }
    for route in list(&status["routes"]) {
        let requests = counted(&route["requests"], "request", "requests");
        let _ =
            writeln!(out, "route {}, {requests}, {} ms on average", word(&route["name"]), route["mean_ms"]);
    }
    out
}

fn counted(count: &Value, one: &str, many: &str) -> String {
    format!("{count} {}", if *count == 1 { one } else { many })
}

const CONNECT_TIME: Duration = Duration::from_secs(5);
const ANSWER_TIME: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_typed() {
        assert_eq!(typed("unix:/run/x.sock").unwrap(), Admin::Unix("/run/x.sock".into()));
        assert!(matches!(typed("127.0.0.1:9000").unwrap(), Admin::Tcp { .. }));
        assert!(typed("example.com").is_err());
    }

    #[test]
    fn a_broken_configuration_still_says_where_the_program_is() {
        let folder = std::env::temp_dir().join(format!("portunus-remote-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("a.conf");
        for (line, expected) in [
            ("admin 127.0.0.1:9000 token=\"0123456789\" # for us", Some("0123456789")),
            ("admin 127.0.0.1:9000 token=${file.token}", Some("from a file")),
            ("admin off", None),
        ] {
            std::fs::write(folder.join("token"), "from a file\n").unwrap();
            std::fs::write(&path, format!("wrong\n{line}\nsite {{\n")).unwrap();
            let token = match configured(Some(&path)).unwrap().0 {
                Admin::Tcp { token, .. } => Some(token.value.clone()),
                Admin::Off => None,
                Admin::Unix(_) => Some("unix".into()),
            };
            assert_eq!(token.as_deref(), expected, "{line}");
        }
        std::fs::write(&path, "wrong\n").unwrap();
        let (usual, doubt) = configured(Some(&path)).unwrap();
        assert_eq!(usual, Admin::default());
        assert!(doubt.unwrap().contains("a.conf:1:1: error: "));
        std::fs::write(&path, "\nadmin 127.0.0.1:9000 token=${env.PORTUNUS_NO_SUCH_VARIABLE}\n").unwrap();
        let exit = configured(Some(&path)).unwrap_err();
        let why = "a.conf:2:28: error: the environment has no variable `PORTUNUS_NO_SUCH_VARIABLE`";
        assert!(exit.text().contains(why), "{}", exit.text());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn answers_are_taken_apart() {
        let answer = parse("HTTP/1.1 422 Unprocessable Entity\r\ncontent-length: 2\r\n\r\nno").unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (422, "no"));
        assert!(parse("SSH-2.0-x").is_none());
    }

    #[test]
    fn a_status_page_can_be_read() {
        let page = readable(&serde_json::json!({
            "version": "1", "state": "running", "pid": 7, "started": "then", "workers": 2, "listen": ["a", "b"],
            "config": { "source": "x.conf", "hash": "0", "warnings": ["odd"] },
            "reloads": { "latest": { "result": "refused", "time": "now", "mistakes": ["x.conf:1:1: bad"] } },
            "connections": { "open": 1, "accepted": 2, "refused": 3 }, "requests_active": 4,
            "pools": [{ "name": "web", "retries": 0, "hosts": [{ "name": "h", "state": "ejected", "reason": "refused", "weight": 2, "requests": 1,
                "failures": 0, "in_flight": 0 }] }],
            "names": [{ "name": "a:80", "addresses": ["x"], "failing": "why" }, { "name": "b:80", "failing": null }],
            "canaries": [{ "route": "r", "pool": "next", "share": "0%", "to": "50%", "state": "given up",
                "reason": "errors 2% > 1%", "new": { "requests": 9, "errors": 1 } }],
            "routes": [{ "name": "r", "requests": 1, "mean_ms": 0.5 }],
        }));
        assert!(page.contains("a:80 cannot be resolved, 1 addresses are kept: why\n"));
        assert_eq!(page.lines().count(), 12, "{page}");
        assert!(
            page.contains("canary next of r, 0% of 50%, given up: errors 2% > 1%, 9 requests, 1 error\n")
        );
        assert!(
            page.contains("x.conf:1:1: bad")
                && page.contains("h ejected (refused), weight 2, 1 request, 0 failures")
        );
    }
}
