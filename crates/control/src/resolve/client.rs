//! client: asks for the addresses of a name: `/etc/hosts` first, then DNS servers, over UDP, and TCP where that is too small.

use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use portunus_relay::plan;
use std::cmp::Reverse;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// Who is asked, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolver {
    /// None means: the system's own way.
    servers: Option<Vec<SocketAddr>>,
    search: Vec<String>,
    dots: usize,
    hosts: Vec<(IpAddr, String)>,
}

/// What a name has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// How long that holds.
    pub ttl: Duration,
    /// Of one family nothing could be learned: addresses of it that were known before may still hold.
    pub incomplete: Option<Family>,
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// One SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Lower ones go first.
    pub priority: u16,
    /// Its share among those of its priority.
    pub weight: u16,
    /// Where.
    pub port: u16,
    /// The name of the host.
    pub target: String,
}

impl Service {
    /// Those that get the most requests go first.
    fn place(&self) -> (u16, Reverse<u16>, &str, u16) {
        (self.priority, Reverse(self.weight), &self.target, self.port)
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Failure {
    /// There is no such name, or nothing of the kind.
    Nothing(String),
    /// Nobody could say.
    Unknown(String),
}

/// The records of one kind and how long they hold, or why there are none.
type Asked = Result<(Vec<RData>, Duration), Failure>;

impl Resolver {
    /// As the settings say; `/etc/resolv.conf` and `/etc/hosts` are read anew.
    pub fn new(plan: &plan::Resolver) -> Resolver {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let mut resolver =
            Resolver { servers: None, search: Vec::new(), dots: 1, hosts: parse_hosts(&read("/etc/hosts")) };
        match plan {
            plan::Resolver::Default => resolver.configure(&read("/etc/resolv.conf")),
            plan::Resolver::Servers(servers) => resolver.servers = Some(servers.clone()),
            plan::Resolver::System => {}
        }
        resolver
    }

    /// Reads `/etc/resolv.conf` (resolv.conf(5)).
    fn configure(&mut self, text: &str) {
        let mut servers = Vec::new();
        for line in text.lines() {
            let mut words = line.split(['#', ';']).next().unwrap_or("").split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    servers.extend(address.map(|address| SocketAddr::new(address, DNS_PORT)));
                }
                Some("search" | "domain") => self.search = words.map(str::to_owned).collect(),
                Some("options") => {
                    let dots = words.find_map(|word| word.strip_prefix("ndots:")?.parse().ok());
                    self.dots = dots.unwrap_or(self.dots);
                }
                _ => {}
            }
        }
        servers.truncate(SERVERS_MAX);
        if servers.is_empty() {
            servers.push(SocketAddr::from((Ipv4Addr::LOCALHOST, DNS_PORT)));
        }
        self.servers = Some(servers);
    }

    /// The addresses of a host. `urgent`: nothing is known of it, so those of one family are given soon, for no time, though nobody has
    /// said anything of the other one.
    pub async fn addresses(&self, host: &str, urgent: bool) -> Result<Answer, String> {
        // A name in an answer of DNS ends with a dot; in files they do not.
        let plain = host.strip_suffix('.').unwrap_or(host);
        let known: Vec<_> = self.hosts.iter().filter(|(_, name)| name.eq_ignore_ascii_case(plain)).collect();
        if !known.is_empty() {
            let addresses = known.iter().map(|(address, _)| *address).collect();
            return Ok(Answer { addresses, ttl: FILE_TTL, incomplete: None });
        }
        if plain == "localhost" || plain.ends_with(".localhost") {
            // RFC 6761 §6.3: never asked of a server.
            let addresses = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            return Ok(Answer { addresses, ttl: FILE_TTL, incomplete: None });
        }
        if self.servers.is_none() {
            return system(host).await;
        }
        let mut last = "there is no such name".to_owned();
        for name in self.candidates(host) {
            let name = Name::from_ascii(&name).map_err(|error| error.to_string())?;
            let (four, six) = (self.ask(&name, RecordType::A), self.ask(&name, RecordType::AAAA));
            let (four, six) = if urgent { soon(four, six, PATIENCE).await } else { tokio::join!(four, six) };
            match both(four, six) {
                Ok(answer) if urgent && answer.incomplete.is_some() => {
                    return Ok(Answer { ttl: Duration::ZERO, ..answer });
                }
                Ok(answer) => return Ok(answer),
                Err(Failure::Nothing(reason)) => last = reason,
                Err(Failure::Unknown(reason)) => return Err(reason),
            }
        }
        Err(last)
    }

    /// The SRV records of a name, those that get the most requests first, and how long they hold.
    pub async fn services(&self, name: &str) -> Result<(Vec<Service>, Duration), String> {
        let name = Name::from_ascii(absolute(name)).map_err(|error| error.to_string())?;
        let said = |failure| match failure {
            Failure::Nothing(reason) | Failure::Unknown(reason) => reason,
        };
        let (records, ttl) = self.ask(&name, RecordType::SRV).await.map_err(said)?;
        let services = records.into_iter().filter_map(|data| match data {
            // RFC 2782: a target of `.` means that the service is not there.
            RData::SRV(srv) if !srv.target.is_root() => Some(Service {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: srv.target.to_ascii(),
            }),
            _ => None,
        });
        let mut services: Vec<Service> = services.collect();
        // Answers come in any order, and the same ones shall mean the same.
        services.sort_by(|one, other| one.place().cmp(&other.place()));
        services.truncate(SERVICES_MAX);
        Ok((services, ttl))
    }

    /// The names that may be meant, as resolv.conf(5) has it: a short one is first looked for in the search list.
    fn candidates(&self, host: &str) -> Vec<String> {
        let own = absolute(host);
        if host.ends_with('.') {
            return vec![own];
        }
        let longer = self.search.iter().map(|domain| absolute(&format!("{host}.{domain}")));
        let mut all: Vec<_> = longer.take(SEARCH_MAX).collect();
        let at = if host.matches('.').count() >= self.dots { 0 } else { all.len() };
        all.insert(at, own);
        all
    }

    /// The records of one kind, from the first server that gives an answer.
    async fn ask(&self, name: &Name, kind: RecordType) -> Asked {
        let servers = self.servers.as_deref().unwrap_or(&[]);
        let mut reason = "there is no DNS server".to_owned();
        for server in servers.iter().cycle().take(ATTEMPTS.max(servers.len())) {
            match tokio::time::timeout(ATTEMPT_TIME, exchange(*server, name, kind)).await {
                Err(_) => reason = format!("{server} gives no answer within {} s", ATTEMPT_TIME.as_secs()),
                Ok(Err(error)) => reason = format!("{server}: {error}"),
                Ok(Ok(message)) => match message.metadata.response_code {
                    ResponseCode::NoError => return records(message, kind),
                    ResponseCode::NXDomain => return Err(Failure::Nothing("there is no such name".into())),
                    code => reason = format!("{server} answers {code}"),
                },
            }
        }
        Err(Failure::Unknown(reason))
    }
}

/// What was asked of both families; when one has addresses the other one is not waited for any longer than that (as in RFC 8305 §3).
async fn soon(
    four: impl Future<Output = Asked>,
    six: impl Future<Output = Asked>,
    patience: Duration,
) -> (Asked, Asked) {
    let (mut four, mut six) = (pin!(four), pin!(six));
    tokio::select! {
        four = &mut four => {
            let six = within(&four, six, patience).await;
            (four, six)
        }
        six = &mut six => (within(&six, four, patience).await, six),
    }
}

async fn within(first: &Asked, other: impl Future<Output = Asked>, patience: Duration) -> Asked {
    if first.is_err() {
        return other.await;
    }
    let late = |_| Err(Failure::Unknown("no answer came in time".into()));
    tokio::time::timeout(patience, other).await.unwrap_or_else(late)
}

/// Both families together. Where one is unknown the other one is enough.
fn both(four: Asked, six: Asked) -> Result<Answer, Failure> {
    let incomplete = match (&four, &six) {
        (Err(Failure::Unknown(_)), Ok(_)) => Some(Family::V4),
        (Ok(_), Err(Failure::Unknown(_))) => Some(Family::V6),
        (Err(Failure::Unknown(reason)), _) | (_, Err(Failure::Unknown(reason))) => {
            return Err(Failure::Unknown(reason.clone()));
        }
        (Err(Failure::Nothing(reason)), Err(_)) => return Err(Failure::Nothing(reason.clone())),
        _ => None,
    };
    let mut answer = Answer { addresses: Vec::new(), ttl: Duration::MAX, incomplete };
    for (records, ttl) in [four, six].into_iter().flatten() {
        answer.ttl = answer.ttl.min(ttl);
        answer.addresses.extend(records.into_iter().filter_map(|data| data.ip_addr()));
    }
    Ok(answer)
}

/// The data of this kind, and the shortest time that any record on the way to it holds.
fn records(message: Message, kind: RecordType) -> Asked {
    let ttl = message.answers.iter().map(|record| record.ttl).min().unwrap_or(0);
    let fits = message.answers.into_iter().filter(|record| record.record_type() == kind);
    let records: Vec<_> = fits.map(|record| record.data).collect();
    match records.is_empty() {
        true => Err(Failure::Nothing("it has no address".into())),
        false => Ok((records, Duration::from_secs(ttl.into()))),
    }
}

/// One question to one server. Whatever does not answer it is somebody else's, and not heard.
async fn exchange(server: SocketAddr, name: &Name, kind: RecordType) -> Result<Message, String> {
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name.clone(), kind));
    let said = |error: std::io::Error| error.to_string();
    let bytes = question.to_vec().map_err(|error| error.to_string())?;
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await.map_err(said)?;
    socket.connect(server).await.map_err(said)?;
    socket.send(&bytes).await.map_err(said)?;
    let mut buffer = vec![0; UDP_BYTES_MAX];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(said)?;
        match answer_to(&question, buffer.get(..length).unwrap_or(&[])) {
            Some(answer) if answer.metadata.truncation => return over_tcp(server, &question, &bytes).await,
            Some(answer) => return Ok(answer),
            None => {}
        }
    }
}

/// The same over TCP, for answers that do not fit (RFC 7766).
async fn over_tcp(server: SocketAddr, question: &Message, bytes: &[u8]) -> Result<Message, String> {
    let said = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(server).await.map_err(said)?;
    let length = u16::try_from(bytes.len()).map_err(|_| "too long a question")?;
    let framed = [&length.to_be_bytes(), bytes].concat();
    stream.write_all(&framed).await.map_err(said)?;
    let mut answer = vec![0; stream.read_u16().await.map_err(said)?.into()];
    stream.read_exact(&mut answer).await.map_err(said)?;
    answer_to(question, &answer).ok_or_else(|| "what came is no answer".into())
}

/// The message in `bytes`, when it answers `question`.
fn answer_to(question: &Message, bytes: &[u8]) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let fits = answer.metadata.id == question.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && answer.queries == question.queries;
    fits.then_some(answer)
}

/// What the system's own resolver says, which has its own ways to find names, but tells no times.
async fn system(host: &str) -> Result<Answer, String> {
    let found = tokio::net::lookup_host((host, 0)).await.map_err(|error| error.to_string())?;
    Ok(Answer { addresses: found.map(|found| found.ip()).collect(), ttl: FILE_TTL, incomplete: None })
}

fn absolute(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.'))
}

/// `/etc/hosts` (hosts(5)): an address and its names.
fn parse_hosts(text: &str) -> Vec<(IpAddr, String)> {
    let mut hosts = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or("").split_ascii_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
        hosts.extend(words.map(|name| (address, name.to_owned())));
    }
    hosts
}

const DNS_PORT: u16 = 53;
const ATTEMPTS: usize = 2;
const ATTEMPT_TIME: Duration = Duration::from_secs(2);
/// How long addresses of one family wait for those of the other one, when there are none yet.
const PATIENCE: Duration = Duration::from_millis(250);
const SERVERS_MAX: usize = 3;
const SEARCH_MAX: usize = 6;
const SERVICES_MAX: usize = 64;
const UDP_BYTES_MAX: usize = 4096;
/// How long what stands in a file, or was found in the system's way, holds.
const FILE_TTL: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn resolver(conf: &str, hosts: &str) -> Resolver {
        let hosts = parse_hosts(hosts);
        let mut resolver = Resolver { servers: None, search: Vec::new(), dots: 1, hosts };
        resolver.configure(conf);
        resolver
    }

    #[test]
    fn resolv_conf_is_read() {
        let conf = "# c\nnameserver 10.0.0.1\nnameserver ::1 # x\nnameserver x\nsearch a.b c\noptions edns0 ndots:5\n";
        let resolver = resolver(conf, "");
        assert_eq!(resolver.servers, Some(vec!["10.0.0.1:53".parse().unwrap(), "[::1]:53".parse().unwrap()]));
        assert_eq!(resolver.candidates("web"), ["web.a.b.", "web.c.", "web."]);
        assert_eq!(resolver.candidates("web."), ["web."]);
        assert_eq!(
            resolver.candidates("a.b.c.d.e.f"),
            ["a.b.c.d.e.f.", "a.b.c.d.e.f.a.b.", "a.b.c.d.e.f.c."]
        );
        assert_eq!(super::tests::resolver("", "").servers, Some(vec!["127.0.0.1:53".parse().unwrap()]));
    }

    #[tokio::test]
    async fn the_file_of_hosts_goes_first() {
        let resolver = resolver("", "10.0.0.1 web Web.internal # c\n::1 web\nnonsense\n");
        let answer = resolver.addresses("WEB", false).await.unwrap();
        assert_eq!(answer.addresses, ["10.0.0.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]);
        assert_eq!(resolver.addresses("localhost", false).await.unwrap().addresses.len(), 2);
        assert_eq!(
            resolver.addresses("web.internal.", false).await.unwrap().addresses.len(),
            1,
            "as targets are called"
        );
        assert_eq!(resolver.addresses("localhost.", false).await.unwrap().addresses.len(), 2);
    }

    #[test]
    fn the_services_that_get_the_most_go_first() {
        let service = |priority, weight, target: &str| Service {
            priority,
            weight,
            port: 80,
            target: target.to_owned(),
        };
        let mut all = [service(1, 9, "a"), service(0, 0, "b"), service(0, 5, "d"), service(0, 5, "c")];
        all.sort_by(|one, other| one.place().cmp(&other.place()));
        assert_eq!(all.map(|one| one.target), ["c", "d", "b", "a"]);
    }

    #[test]
    fn what_does_not_answer_is_not_heard() {
        let mut question = Message::query();
        question.add_query(Query::query(Name::from_ascii("a.").unwrap(), RecordType::A));
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        answer.add_queries(question.queries.clone());
        assert!(answer_to(&question, &answer.to_vec().unwrap()).is_some());
        let mut other = answer.clone();
        other.metadata.id ^= 1;
        assert!(answer_to(&question, &other.to_vec().unwrap()).is_none());
        let mut other = answer.clone();
        other.queries = vec![Query::query(Name::from_ascii("b.").unwrap(), RecordType::A)];
        assert!(answer_to(&question, &other.to_vec().unwrap()).is_none());
        assert!(answer_to(&question, &question.to_vec().unwrap()).is_none());
        assert!(answer_to(&question, b"garbage").is_none());
    }

    #[test]
    fn one_family_is_enough() {
        let some = || Ok((vec![RData::A(Ipv4Addr::LOCALHOST.into())], Duration::from_secs(7)));
        let nothing = || Err(Failure::Nothing("n".into()));
        let unknown = || Err(Failure::Unknown("u".into()));
        assert_eq!(both(some(), nothing()).unwrap().incomplete, None);
        assert_eq!(both(some(), unknown()).unwrap().incomplete, Some(Family::V6));
        assert_eq!(both(some(), nothing()).unwrap().ttl, Duration::from_secs(7));
        assert_eq!(both(nothing(), nothing()), Err(Failure::Nothing("n".into())));
        assert_eq!(both(nothing(), unknown()), Err(Failure::Unknown("u".into())));
    }

    #[tokio::test]
    async fn a_family_that_nobody_speaks_of_holds_up_no_other() {
        let some = || Ok((vec![RData::A(Ipv4Addr::LOCALHOST.into())], Duration::from_secs(7)));
        let none = || Err(Failure::Nothing("n".into()));
        let never = std::future::pending::<Asked>;
        let (four, six) = soon(async { some() }, never(), Duration::ZERO).await;
        assert_eq!(both(four, six).unwrap().incomplete, Some(Family::V6));
        let (four, six) = soon(never(), async { some() }, Duration::ZERO).await;
        assert_eq!(both(four, six).unwrap().incomplete, Some(Family::V4));
        let (said, heard) = tokio::sync::oneshot::channel::<()>();
        let later = async {
            heard.await.unwrap();
            some()
        };
        let both_of = async { soon(async { none() }, later, Duration::ZERO).await };
        let (answer, ()) = tokio::join!(both_of, async {
            tokio::task::yield_now().await;
            said.send(()).unwrap();
        });
        assert_eq!(answer, (none(), some()), "that one has none is no reason to give the other one up");
    }
}
