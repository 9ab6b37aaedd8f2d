//! take: the fields of a block become a request, or trailers; each is checked as it comes (RFC 9113 §8; attacks B1–B6, B11).

use super::hpack::{Field, Pseudo};
use crate::h1::framing::content_length;
use crate::hop::{self, OF_CONNECTIONS};
use crate::websocket;
use memchr::memchr_iter;
use portunus_message::name::{KnownSet, is_token_byte};
use portunus_message::target::TargetError;
use portunus_message::{Crime, FieldValue, Fields, Known, Limits, Method, Request, Scheme, Target};

/// What a request's head says of its body, and does not stand in the [`Request`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// The client waits for 100 before it sends its body.
    pub expects_continue: bool,
    /// How many fields were dropped because of `_` in their names (attack F9).
    pub underscores_dropped: u32,
}

/// Whether a request that is guilty of this is malformed (RFC 9113 §8.1.1): its stream is reset instead of answered.
pub fn is_malformed(crime: Crime) -> bool {
    matches!(crime, Crime::MalformedHead | Crime::BadFraming)
}

/// A request that is being taken over. Who has broken a rule goes on to be listened to, for the sake of the peers' common table; what comes
/// after that is forgotten.
pub struct Taking<'a> {
    request: &'a mut Request,
    /// Room for the cookies, which cross in one line (RFC 9113 §8.2.3).
    cookies: &'a mut Vec<u8>,
    limits: &'a Limits,
    crime: Option<Crime>,
    count: usize,
    cost: usize,
    single: KnownSet,
    is_past_pseudo: bool,
    method: Option<Result<Method, Crime>>,
    has_scheme: bool,
    has_authority: bool,
    has_host: bool,
    path: Path,
    protocol: Option<bool>,
    length: Option<u64>,
    websocket_13: bool,
    expects_continue: bool,
    underscores_dropped: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    None,
    /// It begins with a slash.
    Usual,
    Star,
    Wrong,
}

impl<'a> Taking<'a> {
    /// For a head that came by a listener of `scheme`; `request` is empty.
    pub fn new(
        scheme: Scheme,
        request: &'a mut Request,
        cookies: &'a mut Vec<u8>,
        limits: &'a Limits,
    ) -> Taking<'a> {
        request.target.scheme = scheme;
        cookies.clear();
        Taking {
            request,
            cookies,
            limits,
            crime: None,
            count: 0,
            cost: 0,
            single: KnownSet::default(),
            is_past_pseudo: false,
            method: None,
            has_scheme: false,
            has_authority: false,
            has_host: false,
            path: Path::None,
            protocol: None,
            length: None,
            websocket_13: false,
            expects_continue: false,
            underscores_dropped: 0,
        }
    }

    /// Takes a field over.
    #[inline]
    pub fn field(&mut self, field: &Field<'_>) {
        if self.crime.is_some() {
            // Whoever refuses it has to know whether the answer may have a body.
            if let (Pseudo::Method, Some(method)) = (field.pseudo, Method::parse(field.value)) {
                self.request.method = method;
            }
            return;
        }
        let taken = if field.pseudo == Pseudo::None { self.plain(field) } else { self.pseudo(field) };
        self.crime = taken.err();
    }

    /// How many fields there have been, and what they cost: trailers count with them (attack A35).
    pub fn cost(&self) -> (usize, usize) {
        (self.count, self.cost)
    }

    fn pseudo(&mut self, field: &Field<'_>) -> Result<(), Crime> {
        let value = field.value;
        if self.is_past_pseudo || !field.is_value {
            return Err(Crime::MalformedHead);
        }
        let is_first = match field.pseudo {
            Pseudo::Method if value.is_empty() || !value.iter().copied().all(is_token_byte) => false,
            Pseudo::Method => {
                let method = Method::parse(value).ok_or(Crime::UnknownMethod);
                method.iter().for_each(|method| self.request.method = *method);
                self.method.replace(method).is_none()
            }
            // Which of them was used is known better than the client can tell (attack B4).
            Pseudo::Scheme if !is_scheme(value) => return Err(Crime::BadTarget),
            Pseudo::Scheme => !std::mem::replace(&mut self.has_scheme, true),
            Pseudo::Authority => {
                self.request.target.set_authority(value).map_err(|_| Crime::BadHost)?;
                !std::mem::replace(&mut self.has_authority, true)
            }
            Pseudo::Path => return self.path(value),
            Pseudo::Protocol => self.protocol.replace(value == b"websocket").is_none(),
            Pseudo::Status | Pseudo::Unknown | Pseudo::None => false,
        };
        if is_first { Ok(()) } else { Err(Crime::MalformedHead) }
    }

    fn path(&mut self, value: &[u8]) -> Result<(), Crime> {
        if self.path != Path::None {
            return Err(Crime::MalformedHead);
        }
        if value.len() > self.limits.url_bytes {
            return Err(Crime::UrlTooLong);
        }
        self.path = match value {
            b"*" => Path::Star,
            [b'/', ..] => Path::Usual,
            _ => Path::Wrong, // RFC 9113 §8.3.1
        };
        if self.path == Path::Wrong {
            return Ok(());
        }
        self.request.target.set_path(value).map_err(|error| match error {
            TargetError::Malformed => Crime::BadTarget,
            TargetError::Forbidden | TargetError::AboveRoot => Crime::ForbiddenPath,
        })
    }

    fn plain(&mut self, field: &Field<'_>) -> Result<(), Crime> {
        let Field { known, name, value, .. } = *field;
        self.is_past_pseudo = true;
        self.count += 1;
        self.cost += name.len() + value.len() + 32;
        if known == Known::COOKIE {
            self.count += memchr_iter(b';', value).count();
        }
        let limits = self.limits;
        if name.len() + value.len() > limits.header_line
            || name.len() > limits.header_name
            || self.count > limits.header_count
            || self.cost > limits.header_bytes
        {
            return Err(Crime::HeadTooLarge);
        }
        let Some(plain) = field.plain_value().filter(|_| field.is_name) else {
            return Err(Crime::MalformedHead);
        };
        if known == Known::OTHER {
            if hop::is_dropped(name, &limits.underscores)? {
                self.underscores_dropped += 1;
            } else {
                self.request.fields.push(known, name, plain);
            }
            return Ok(());
        }
        match known {
            Known::HOST => self.host(value)?,
            Known::CONTENT_LENGTH => {
                let length = content_length(value).ok_or(Crime::BadFraming)?;
                if self.length.replace(length).is_some() {
                    return Err(Crime::BadFraming);
                }
            }
            Known::EXPECT if !value.eq_ignore_ascii_case(b"100-continue") => return Err(Crime::BadExpect),
            Known::EXPECT => self.expects_continue = true,
            Known::SEC_WEBSOCKET_VERSION => self.websocket_13 = value == b"13",
            Known::TE if value.eq_ignore_ascii_case(b"trailers") => self.request.trailers = true,
            Known::COOKIE => {
                if !self.cookies.is_empty() && !value.is_empty() {
                    self.cookies.extend_from_slice(b"; ");
                }
                self.cookies.extend_from_slice(value);
                return Ok(());
            }
            _ if OF_CONNECTIONS.has(known) => return Err(Crime::MalformedHead), // attack B2
            _ => {}
        }
        if hop::is_single(known) {
            if self.single.has(known) {
                return Err(Crime::DoubledField);
            }
            self.single.insert(known);
        }
        if hop::crosses_up(known) {
            self.request.fields.push(known, name, plain);
        }
        Ok(())
    }

    /// `:authority` and `Host` must be the same where both are there (attack B5).
    fn host(&mut self, value: &[u8]) -> Result<(), Crime> {
        if std::mem::replace(&mut self.has_host, true) {
            return Err(Crime::BadHost);
        }
        let target = &mut self.request.target;
        if !self.has_authority {
            return target.set_authority(value).map_err(|_| Crime::BadHost);
        }
        if target.authority().as_bytes().eq_ignore_ascii_case(value) {
            return Ok(());
        }
        let mut other = Target::new();
        other.scheme = target.scheme;
        other.set_authority(value).map_err(|_| Crime::BadHost)?;
        if other.authority() == target.authority() { Ok(()) } else { Err(Crime::BadHost) }
    }

    /// What is to be said of the whole. `ended`: no body follows. A websocket's request becomes what it is in HTTP/1.1, but for its key,
    /// which is not the client's business here (RFC 8441).
    pub fn finish(self, ended: bool) -> Result<RequestHead, Crime> {
        if let Some(crime) = self.crime {
            return Err(crime);
        }
        let request = self.request;
        let method = self.method.ok_or(Crime::MalformedHead)??;
        let is_tunnel = method == Method::CONNECT && self.protocol.is_none();
        let is_whole = self.has_scheme && self.path != Path::None;
        let is_bare = !self.has_scheme && self.path == Path::None;
        // RFC 9113 §8.3.1, §8.5; RFC 8441 §4.
        if !(if is_tunnel { is_bare } else { is_whole })
            || (method != Method::CONNECT && self.protocol.is_some())
        {
            return Err(Crime::MalformedHead);
        }
        request.method = match (method, self.protocol) {
            (Method::CONNECT, Some(true)) => Method::GET,
            (Method::CONNECT, Some(false)) => return Err(Crime::UnknownProtocol),
            (Method::CONNECT | Method::TRACE, _) => return Err(Crime::MethodRefused), // attack A43
            _ => method,
        };
        if !self.has_authority && !self.has_host {
            return Err(Crime::BadHost);
        }
        if self.path == Path::Wrong || (self.path == Path::Star && request.method != Method::OPTIONS) {
            return Err(Crime::MalformedHead);
        }
        if let Some(cookies) = FieldValue::new(self.cookies).filter(|_| !self.cookies.is_empty()) {
            request.fields.push(Known::COOKIE, b"cookie", cookies);
        }
        let underscores_dropped = self.underscores_dropped;
        request.websocket = self.protocol.is_some();
        if request.websocket {
            let fine = !ended && self.websocket_13 && self.length.is_none();
            request.fields.remove(Known::SEC_WEBSOCKET_KEY);
            let head = RequestHead { expects_continue: false, underscores_dropped };
            return if fine { Ok(head) } else { Err(Crime::BadUpgrade) };
        }
        match (ended, self.length) {
            (true, Some(1..)) => return Err(Crime::BadFraming), // attack B1
            (true, _) | (false, Some(0)) => request.body.clear(),
            (false, length) => request.body.will_come(length),
        }
        Ok(RequestHead { expects_continue: self.expects_continue && !ended, underscores_dropped })
    }
}

/// A websocket key out of `random` bytes, for an upstream of HTTP/1.1: clients of HTTP/2 send none (RFC 8441 §5).
pub fn add_key(request: &mut Request, random: u128) {
    let key = websocket::key(random.to_be_bytes());
    if let Some(key) = FieldValue::new(&key) {
        request.fields.set(Known::SEC_WEBSOCKET_KEY, key);
    }
}

/// Whether it is a scheme that is served; schemes have no case (RFC 9110 §4.2.3).
fn is_scheme(value: &[u8]) -> bool {
    value.eq_ignore_ascii_case(b"http") || value.eq_ignore_ascii_case(b"https")
}

/// A client's trailers that are being taken over.
pub struct TakingTrailers<'a> {
    fields: Fields,
    /// How many there have been, and what they cost, those of the head included (attack A35).
    count: usize,
    cost: usize,
    limits: &'a Limits,
    crime: Option<Crime>,
}

impl<'a> TakingTrailers<'a> {
    /// For a block behind a body, whose head had so many fields of such a cost.
    pub fn new((count, cost): (usize, usize), limits: &'a Limits) -> TakingTrailers<'a> {
        TakingTrailers { fields: Fields::new(), count, cost, limits, crime: None }
    }

    /// Takes a field over. What no trailer may say is a crime (attacks A34, B4).
    pub fn field(&mut self, field: &Field<'_>) {
        if self.crime.is_some() {
            return;
        }
        let Field { known, name, pseudo, .. } = *field;
        let value = field.plain_value().filter(|_| field.is_name);
        match value {
            _ if pseudo != Pseudo::None => self.crime = Some(Crime::MalformedHead),
            Some(_) if known == Known::OTHER && hop::has_underscore(name) => {} // dropped, as in a head (attack F9)
            Some(value) if hop::may_trail(known, name) => self.fields.push(known, name, value),
            _ => self.crime = Some(Crime::BadTrailer),
        }
        self.count += 1;
        self.cost += name.len() + field.value.len() + 32;
        if self.count > self.limits.header_count || self.cost > self.limits.header_bytes {
            self.crime = Some(Crime::BadTrailer);
        }
    }

    /// All of them.
    pub fn finish(self) -> Result<Fields, Crime> {
        self.crime.map_or(Ok(self.fields), Err)
    }
}
