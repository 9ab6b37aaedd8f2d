//! What concerns the whole program: workers, admin, logs, trusted proxies, limits.

use crate::acme;
use crate::args::Scene;
use crate::bounds;
use crate::choosing;
use crate::directives::{Form, Scope};
use crate::draft::{Draft, Value};
use crate::findings::Span;
use crate::outside::Wrong;
use crate::values;
use portunus_relay::plan::{
    AccessLog, Admin, Listen, LogFormat, LogLevel, LogTarget, Resolver, Settings, SitePlan,
};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Where the system's log listens.
const SYSLOG_SOCKET: &str = "/dev/log";
/// DNS servers that are asked one after the other.
const SERVERS_MAX: usize = 3;

/// The settings among the statements outside every block.
pub fn read(top: &[(&Draft, &'static Form)], scene: &mut Scene<'_, '_>) -> Settings {
    let mut settings = Settings::default();
    let mut logs = Logs::default();
    for (draft, form) in top {
        let first = draft.words.first();
        match (form.name, first) {
            ("workers", Some(count)) => {
                let count = scene.parse(count, |text| values::number(text, 1, 1024));
                settings.workers = count.and_then(|count| usize::try_from(count).ok());
            }
            ("zone", Some(name)) => settings.zone = scene.parse(name, choosing::zone),
            ("admin", Some(place)) => settings.admin = admin(draft, place, scene).unwrap_or_default(),
            ("log", Some(what)) => logs.read(draft, what, &mut settings, scene),
            ("trusted-proxies", _) => {
                for word in &draft.words {
                    settings.trusted_proxies.extend(scene.parse(word, trusted));
                }
            }
            ("grace", Some(time)) => {
                settings.grace = scene.parse(time, values::duration).unwrap_or(settings.grace);
            }
            ("resolver", _) => settings.resolver = resolver(draft, scene),
            ("state", Some(path)) => settings.state = scene.parse(path, state),
            ("acme", _) => settings.acme = acme::read(draft.block.as_deref().unwrap_or(&[]), scene),
            ("watch", switch) => settings.watch = switch.is_none_or(|switch| switch.text.value == "on"),
            ("limits", _) => {
                bounds::read(draft, Scope::Top, &mut settings.limits, scene);
            }
            _ => {}
        }
    }
    settings
}

/// `resolver ADDRESS …`, or `resolver system`.
fn resolver(draft: &Draft, scene: &mut Scene<'_, '_>) -> Resolver {
    if let [word] = draft.words.as_slice()
        && word.text.value == "system"
    {
        return Resolver::System;
    }
    if let Some(more) = draft.words.get(SERVERS_MAX) {
        let reason = format!("more than {SERVERS_MAX} servers would not be asked");
        scene.findings.error(more.span, reason);
    }
    Resolver::Servers(draft.words.iter().filter_map(|word| scene.parse(word, server)).collect())
}

/// An address, with a port or without.
fn server(text: &str) -> Result<SocketAddr, Wrong> {
    let alone = text.trim_matches(['[', ']']).parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
    match text.parse::<SocketAddr>().or(alone) {
        Ok(address) if address.port() != 0 => Ok(address),
        _ => Err(Wrong::new("is not the address of a DNS server")
            .hint("write it like `10.0.0.53` or `10.0.0.53:5353`")),
    }
}

fn state(text: &str) -> Result<PathBuf, Wrong> {
    match text.starts_with('/') {
        true => Ok(PathBuf::from(text)),
        false => Err(Wrong::new("is not an absolute path").hint("write it like `/var/lib/portunus`")),
    }
}

/// A network that somebody is believed in who speaks for others.
pub fn trusted(text: &str) -> Result<ipnet::IpNet, Wrong> {
    let anybody = || {
        Wrong::new("cannot stand here: anybody could claim any address")
            .hint("name the networks of the proxies in front of this one")
    };
    if text == "all" {
        return Err(anybody());
    }
    let network = values::network(text)?;
    if believes_anybody(&network) { Err(anybody()) } else { Ok(network) }
}

/// Whether everybody is in a network.
pub fn believes_anybody(network: &ipnet::IpNet) -> bool {
    network.prefix_len() == 0
}

/// `admin unix:PATH | ADDRESS token=… | off`.
fn admin(draft: &Draft, place: &Value, scene: &mut Scene<'_, '_>) -> Option<Admin> {
    let token = draft.options.iter().find(|(key, _)| &**key == "token").map(|(_, value)| value);
    let text = &place.text.value;
    if text == "off" || text.starts_with("unix:") {
        if let Some(token) = token {
            let reason = "a token is only for an admin API at a TCP address";
            scene.findings.error(token.span, reason).hint("a unix socket is guarded by its owner");
        }
        if text == "off" {
            return Some(Admin::Off);
        }
        return scene
            .parse(place, |text| values::unix_path(text.trim_start_matches("unix:")))
            .map(Admin::Unix);
    }
    let address = scene.parse(place, |text| match values::listen(text) {
        Ok(Listen::Tcp(address)) => Ok(address),
        Ok(_) => Err(Wrong::new("is not an address")),
        Err(wrong) if text.starts_with('/') => Err(wrong.hint(format!("write `unix:{text}`"))),
        Err(wrong) => Err(wrong),
    })?;
    match token {
        Some(token) if token.text.value.len() >= 8 => Some(Admin::Tcp { address, token: token.text.clone() }),
        Some(token) => {
            scene.findings.error(token.span, "the token is shorter than 8 bytes, which can be guessed");
            None
        }
        None => {
            let hint = format!("write `admin {text} token=${{env.ADMIN_TOKEN}}`");
            scene.findings.error(place.span, "an admin API at a TCP address needs a token").hint(hint);
            None
        }
    }
}

/// Why the admin API cannot be where it is: a site listens there.
pub fn taken(admin: &Admin, sites: &[SitePlan]) -> Option<Wrong> {
    let admin = match admin {
        Admin::Off => return None,
        Admin::Unix(path) => Listen::Unix(path.clone()),
        Admin::Tcp { address, .. } => Listen::Tcp(*address),
    };
    let (site, listen) = sites
        .iter()
        .find_map(|site| Some((site, site.listen.iter().find(|listen| listen.overlaps(&admin))?)))?;
    let name = site.names.first().map(ToString::to_string).unwrap_or_default();
    let reason = format!("the admin API cannot be at {admin}: site `{name}` listens at {listen}");
    Some(Wrong::new(reason).hint("give one of them another port, or another path"))
}

/// Where the two kinds of `log` were set.
#[derive(Default)]
struct Logs {
    access: Option<Span>,
    level: Option<Span>,
}

impl Logs {
    fn read(&mut self, draft: &Draft, what: &Value, settings: &mut Settings, scene: &mut Scene<'_, '_>) {
        let Some(how) = draft.words.get(1) else { return };
        let place = draft.words.get(2);
        let access = match what.text.value.as_str() {
            "access" => true,
            "level" => false,
            _ => return,
        };
        let seen = if access { &mut self.access } else { &mut self.level };
        if let Some(first) = seen.replace(draft.span) {
            scene.twice(draft.span, &format!("`log {}`", what.text.value), first);
        }
        if access {
            settings.access_log = access_log(how, place, scene);
        } else {
            settings.log_level = scene.parse(how, log_level).unwrap_or_default();
            if let Some(place) = place {
                scene.findings.error(place.span, "what the program says of itself goes to standard error");
            }
        }
    }
}

fn access_log(how: &Value, place: Option<&Value>, scene: &mut Scene<'_, '_>) -> Option<AccessLog> {
    let format = scene.parse(how, |text| match text {
        "json" => Ok(Some(LogFormat::Json)),
        "combined" => Ok(Some(LogFormat::Combined)),
        "off" => Ok(None),
        _ => Err(values::one_of(text, &["json", "combined", "off"])
            .err()
            .unwrap_or(Wrong::new("is not a format"))),
    })?;
    let to = match place {
        None => LogTarget::Stdout,
        Some(place) => scene.parse(place, log_target)?,
    };
    if let (None, Some(place)) = (format, place) {
        scene.findings.error(place.span, "a log that is off has no place");
    }
    format.map(|format| AccessLog { format, to })
}

fn log_target(text: &str) -> Result<LogTarget, Wrong> {
    match text {
        "" => Err(Wrong::new("is not a place for a log")),
        "stdout" => Ok(LogTarget::Stdout),
        "off" | "on" => {
            Err(Wrong::new("is no place for a log").hint("write `log access off`, or the file as `./off`"))
        }
        "stderr" => {
            Err(Wrong::new("is where the program speaks of itself").hint("write `stdout`, or a file"))
        }
        "syslog" => Ok(LogTarget::Syslog(PathBuf::from(SYSLOG_SOCKET))),
        _ => match text.strip_prefix("syslog:") {
            Some(path) if !path.contains('/') => Err(Wrong::new("is not the path of a socket")
                .hint("the log goes to a local syslog, `syslog` or `syslog:/dev/log`, which can pass it on")),
            Some(path) => values::unix_path(path).map(LogTarget::Syslog),
            None => Ok(LogTarget::File(PathBuf::from(text.strip_prefix("file:").unwrap_or(text)))),
        },
    }
}

fn log_level(text: &str) -> Result<LogLevel, Wrong> {
    match text {
        "error" => Ok(LogLevel::Error),
        "warn" => Ok(LogLevel::Warn),
        "info" => Ok(LogLevel::Info),
        "debug" => Ok(LogLevel::Debug),
        _ => Err(values::one_of(text, &["error", "warn", "info", "debug"])
            .err()
            .unwrap_or(Wrong::new("is not a level"))),
    }
}
